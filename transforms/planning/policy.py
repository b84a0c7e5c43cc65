"""Policy: which images are segmented again, and which are set aside."""

from dataclasses import dataclass

from transforms.output import columns

DEFAULT_MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class Gate:
    """Which photos are set aside before segmenting, see `transforms.planning.gating`.

    Attributes:
        duplicates: whether photos are that look like another one nearby.
        blurred: whether photos are that are not sharp.
    """

    duplicates: bool = False
    blurred: bool = False

    @property
    def reasons(self) -> tuple[str, ...]:
        """The reasons for which photos are set aside; none without a gate."""
        reasons = {columns.DUPLICATE: self.duplicates, columns.BLURRED: self.blurred}
        return tuple(reason for reason, counts in reasons.items() if counts)


@dataclass(frozen=True)
class Policy:
    """Which images are segmented again, and which are not segmented.

    Attributes:
        force: segment images again that have results.
        max_attempts: failures after which a version of an image is in quarantine.
        retry_failed: whether to try images in quarantine as well.
        gate: which photos are set aside; those of an earlier run stay so until they change.
    """

    force: bool = False
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    retry_failed: bool = False
    gate: Gate = Gate()


EVERY_NIGHT = Policy()
"""Images that are new, have changed or are not in quarantine."""
