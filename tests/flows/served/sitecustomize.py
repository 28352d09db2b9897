"""Imported by Python itself in processes that have this folder in their path: stand-ins for the work of all stages.

The runs of `serve` are processes of their own, in which no fixture can patch anything; so what they import is replaced
before anybody imports it.
"""

import faceline.nightly.recipe
import faceline.stages
import faceline.video
import flows.results
import tasks.runner
from tests.flows.fakes import Calls, fake_finish, fake_stages, open_fake

_CALLS = Calls()
faceline.stages.STAGES = fake_stages(faceline.stages.STAGES, _CALLS)
faceline.video.open_footage = open_fake  # type: ignore[assignment]
flows.results.finish = fake_finish
for _module in (tasks.runner, faceline.nightly.recipe):
    _module.code_digests = lambda stage: {stage.name: "as it is"}  # type: ignore[attr-defined]
