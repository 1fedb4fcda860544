"""What can go wrong with a store; every client's own exceptions end here."""

from __future__ import annotations


class StoreError(Exception):
    """Base of all; `key` is the object in question, empty where there is none."""

    def __init__(self, message: str, *, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class ObjectNotFoundError(StoreError):
    """No such object, or no such unfinished upload."""


class InvalidKeyError(StoreError):
    """A key that is no safe relative path; nothing was touched."""


class BadAddressError(StoreError):
    """A store's address that cannot be understood."""


class StoreDeniedError(StoreError):
    """The store knows us and says no, or does not know us."""


class StoreUnavailableError(StoreError):
    """Not reachable, overloaded or too slow, after all retries; another try later may succeed."""


class StoreTooSlowError(StoreUnavailableError):
    """Bytes come, but slower than is worth waiting for."""


class ObjectCorruptError(StoreError):
    """The bytes are not those that were asked for."""

    def __init__(self, message: str, *, key: str = "", expected: str = "", actual: str = "") -> None:
        super().__init__(message, key=key)
        self.expected = expected
        self.actual = actual


class ObjectTooLargeError(StoreError):
    """A small object that is not small."""
