"""The errors that sepvae raises on purpose; the command line turns each into one line on stderr."""

NOT_FINITE = "the model gave numbers that are not finite; is the input far beyond full scale?"
"""What a `NonFiniteError` says."""


class SepvaeError(Exception):
    """Root of every error that sepvae raises on purpose."""


class AudioFileError(SepvaeError):
    """An input file is missing, empty, damaged, not audio, or holds NaN or infinite samples."""


class OutputError(SepvaeError):
    """A result cannot be written where it was asked for."""


class CheckpointError(SepvaeError):
    """A checkpoint is missing, damaged, or does not fit the model that its card names."""


class RecipeError(SepvaeError):
    """A recipe or one of its overrides is unknown or contradictory."""


class ShapeError(SepvaeError):
    """An array has the wrong rank, type or size, or a number that describes it is out of its range."""


class OptionError(SepvaeError):
    """A choice of the caller, such as a quality, a stem or a device, is unknown or impossible."""


class NonFiniteError(SepvaeError):
    """The model gave numbers that are not finite."""


class DataError(SepvaeError):
    """A dataset folder does not have the layout or the content that the task needs."""


class DownloadError(SepvaeError):
    """A file cannot be fetched, or is not the one that was expected."""


class CancelledError(SepvaeError):
    """The caller's progress callback returned False; nothing has been left behind."""
