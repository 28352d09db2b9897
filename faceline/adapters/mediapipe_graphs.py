"""MediaPipe's graphs, for whoever wants them before a network is loaded: to import this module is to have them."""

from faceline.adapters.mediapipe_core import lay_out

lay_out()

import mediapipe.python  # noqa: E402, F401
