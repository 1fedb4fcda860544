"""`pilotlight recommend`: how to run a model and what to expect of it, before it runs; needs no platform."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from pilotlight.platform.cli.errors import REFUSED, CommandError
from pilotlight.platform.cli.evaluate import evaluate


class _Fallback(TyperGroup):
    """A command of its own, unless its first word names one of those below it.

    `Any`: typer names no public types for contexts and parameters.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0] not in self.commands:
            return super().parse_args(ctx, args)
        super().parse_args(ctx, [])
        ctx._protected_args, ctx.args = args[:1], args[1:]  # noqa: SLF001 - how a group hands on what is not its own
        return args[1:]

    def get_params(self, ctx: Any) -> list[Any]:
        """Those below it are not called with its argument, and their usage does not show it."""
        own: list[Any] = super().get_params(ctx)
        return own if ctx.command is self else [param for param in own if param.param_type_name != "argument"]


app = typer.Typer(
    cls=_Fallback,
    invoke_without_command=True,
    rich_markup_mode=None,
    subcommand_metavar="| evaluate ...",
    context_settings={"allow_interspersed_args": True},
)
app.command()(evaluate)

Split = Annotated[int | None, typer.Option(help="Accelerators that each layer is split over.", show_default="the best")]
Stages = Annotated[
    int | None,
    typer.Option(help="Stages that layers are spread over, each of so many accelerators.", show_default="the best"),
]


@app.callback()
def recommend(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model's folder, its config.json, or s3://BUCKET/NAME:TAG.")
    ] = "",
    accelerator: Annotated[
        list[str] | None,
        typer.Option(
            help="On what, by name; `cpu`: this machine's processors. May be repeated.", show_default="this machine"
        ),
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="On every accelerator of the catalogue.")] = False,
    slo: Annotated[
        list[str] | None,
        typer.Option(help="Bounds, as ttft=2s,itl=100ms. Repeated for classes: the tightest count."),
    ] = None,
    prompt: Annotated[str, typer.Option(help="Tokens of a usual prompt, or quantiles, as p50=500,p99=6000.")] = "512",
    answer: Annotated[str, typer.Option(help="Tokens of a usual answer, or quantiles.")] = "256",
    rate: Annotated[float | None, typer.Option(help="Requests per second that are expected.")] = None,
    context_length: Annotated[int | None, typer.Option("--context", help="Longest request, tokens.")] = None,
    tensor_parallel: Split = None,
    pipeline_parallel: Stages = None,
    kv_dtype: Annotated[str, typer.Option(help="Number format of the KV cache, as fp8; it changes answers.")] = "auto",
    memory: Annotated[str, typer.Option(help="Of this machine for replicas, as 8Gi.", show_default="80 % of it")] = "",
    accelerators: Annotated[
        list[Path] | None, typer.Option(help="File of accelerators beside the built-in ones; may be repeated.")
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="First run the real engine here and measure it at a few loads.")
    ] = False,
    within: Annotated[str, typer.Option(help="With --calibrate: how long it may take.")] = "3m",
    store: Annotated[
        Path | None, typer.Option(help="File of the measurements.", show_default="one in the state folder")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say why, figure by figure.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print every figure with reason and inputs as JSON.")] = False,
) -> None:
    """Recommend how to run a model, and tell what to expect of it.

    No platform is needed, and of a model's weights only the first bytes are read. Nothing is started but for
    --calibrate; what that measured counts from then on, for this model on this hardware.
    """
    if context.invoked_subcommand:
        return
    if not model:
        raise CommandError("name a model: a folder, a config.json, or s3://BUCKET/NAME:TAG", code=REFUSED)
    from pilotlight.platform.cli import recommend_input as given
    from pilotlight.platform.cli.calibrating import Question
    from pilotlight.platform.cli.recommend_output import show

    with given.refused():
        read = given.read_model(context, model)
        workload = given.workload(prompt, answer, rate)
        fixed = given.constraints(read.facts, tensor_parallel, pipeline_parallel, kv_dtype, context_length)
        asked = Question(read.facts, read.fingerprint, read.folder, given.slo(slo or []), workload, fixed)
        there = given.accelerators(accelerator or [], accelerators or [], memory, every=compare)
        measured = given.calibrations(context, store, within, accelerators or [], calibrate=calibrate)
        show(given.rows(asked, there, measured), explain=explain, as_json=as_json)
