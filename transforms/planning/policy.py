"""Policy: what is done again, and what is set aside."""

from dataclasses import dataclass

from transforms.output import columns

DEFAULT_MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class Gate:
    """What is set aside before it is segmented, see `transforms.planning.gating`.

    Attributes:
        duplicates: photos that look like another one nearby.
        blurred: photos that are not sharp.
    """

    duplicates: bool = False
    blurred: bool = False

    @property
    def reasons(self) -> tuple[str, ...]:
        """The reasons of the rows that count; none where there is no gate."""
        reasons = {columns.DUPLICATE: self.duplicates, columns.BLURRED: self.blurred}
        return tuple(reason for reason, counts in reasons.items() if counts)


@dataclass(frozen=True)
class Policy:
    """What is done again, and what is not done at all.

    Attributes:
        force: do images anew that are done.
        max_attempts: a version of an image that has failed so often is in quarantine.
        retry_failed: try what is in quarantine, too.
        gate: what is set aside; what was stays so while its version stands.
    """

    force: bool = False
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    retry_failed: bool = False
    gate: Gate = Gate()


EVERY_NIGHT = Policy()
"""What is new, changed or has failed seldom enough."""
