"""What figures are drawn with: matplotlib's own defaults and ours, and never the settings of whoever runs this.

The same runs must give the same bytes for everybody, or an honest page would look edited. So a user's matplotlibrc,
style or `plt.rcParams` are set aside while a figure is made or written, and are there again afterwards. matplotlib
reads MPLBACKEND when it is imported, and fails where that names a backend that is not installed, as a notebook's is not
in another environment. Figures here need no backend, so matplotlib does not see the variable: this module is imported
before matplotlib is.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

INK = "#010203"  # stands for the page's text colour; no data is drawn in it

STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lockstep",
    "text.parse_math": False,  # a class may be called "$"
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}

# Settings that are no matter of looks: windows, folders, and an epoch that cannot be changed after its first use.
NO_LOOK = (
    "backend", "backend_fallback", "date.epoch", "docstring.hardcopy", "figure.raise_window", "interactive",
    "savefig.directory", "timezone", "tk.window_focus", "toolbar", "webagg.address", "webagg.open_in_browser",
    "webagg.port", "webagg.port_retries",
)  # fmt: skip


def _import() -> None:
    """Import matplotlib without the environment's backend; that backend is set afterwards, where it is installed."""
    if "matplotlib" in sys.modules:
        return
    named = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if named is not None:
            os.environ["MPLBACKEND"] = named
    if named:
        with contextlib.suppress(ValueError):  # as matplotlib would have done
            matplotlib.rcParams["backend"] = named


_import()


@functools.cache
def own_settings() -> dict[Any, Any]:
    """Every setting of matplotlib's that is a matter of looks: its own default, or ours."""
    import matplotlib

    own: dict[Any, Any] = {key: value for key, value in matplotlib.rcParamsDefault.items() if key not in NO_LOOK}
    return {**own, **STYLE}


@contextlib.contextmanager
def settings() -> Iterator[None]:
    """Give figures our settings, inside the context or in a decorated function; afterwards the user's are back."""
    import matplotlib

    with matplotlib.rc_context():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated settings come from matplotlib's own list, not from ours
            settings: Any = matplotlib.rcParams
            settings.update(own_settings())
        yield
