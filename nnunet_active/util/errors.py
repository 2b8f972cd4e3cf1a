"""Errors that a user can cause and correct. The command line prints their text as one sentence, without a traceback."""


class ActiveError(Exception):
    """What was found, where, and what to do about it, in one sentence.

    Attributes:
        exit_code: what the command line returns for it (2: wrong input; nothing was written).
    """

    exit_code = 2


class MissingInput(ActiveError):
    """A named dataset, plans file, model folder, checkpoint or campaign does not exist."""


class IncompatibleSource(ActiveError):
    """The source model cannot be carried over to the target as planned."""


class UnsafeCheckpoint(ActiveError):
    """A checkpoint that cannot be read without running code from it."""


class BadCase(ActiveError):
    """One case has an unusable image or label; the others go on."""


class BadCaseIdentifier(ActiveError):
    """A case identifier that could leave the dataset's folders or break nnU-Net's file names."""


class CampaignError(ActiveError):
    """A campaign does not exist, is in use, or contradicts the request."""


class CampaignInUse(CampaignError):
    """Another process holds the campaign."""


class EmptyPool(ActiveError):
    """No unlabelled case is left to choose from: a normal end, not a failure."""

    exit_code = 0
