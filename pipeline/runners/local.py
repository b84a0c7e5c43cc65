"""The local runner: a graph runs in this process, or in several processes of this machine."""

import shlex
import sys

from apache_beam.options.pipeline_options import DirectOptions
from apache_beam.runners.runner import PipelineRunner, PipelineState

from pipeline.errors import JobError
from pipeline.runners.options import IN_PROCESSES, LOCAL_RUNNER, pipeline_options
from pipeline.runners.runner import Build, Metrics, Runner, Watch, start

WORKER = f"exec {shlex.quote(sys.executable)} -m pipeline.runners.worker"
"""The shell command of one of several worker processes."""


class LocalRunner(Runner):
    """Beam's in-process runner, or another of Beam's runners that needs no service."""

    def run(self, build: Build, watch: Watch | None = None) -> Metrics:
        """See `Runner.run`. Progress comes by log records (`transforms.flow.progress`)."""
        options = pipeline_options(self.options)
        result = start(build, options, self._workers(options.view_as(DirectOptions)))
        state = result.wait_until_finish()
        if state != PipelineState.DONE:
            raise JobError(f"the job ended as {state}; its runner says why")
        return Metrics.of(result)

    def _workers(self, direct: DirectOptions) -> PipelineRunner | None:
        """The runner of several worker processes, or None if one process was requested."""
        named = self.options.get("runner", LOCAL_RUNNER)
        if named != LOCAL_RUNNER or direct.direct_running_mode != IN_PROCESSES:
            return None
        from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
        from apache_beam.transforms.environments import SubprocessSDKEnvironment

        # Beam's own workers would be killed by Ctrl-C.
        direct.direct_running_mode = "in_memory"
        return FnApiRunner(SubprocessSDKEnvironment.from_command_string(WORKER))
