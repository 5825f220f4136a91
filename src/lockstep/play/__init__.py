"""Play: one offline page on which to draw, and every run of a study answers, layer by layer.

`networks` has a run as the page plays it, `examples` what the page proves itself by, `framing` and `painting` how a
drawing becomes a picture of the dataset, `strangeness` and `strangers` how strange a picture is and what that notices,
`film` the epochs; `page` gathers and writes. What the page computes stands in the scripts beside, told apart by
subject: `network.js` the forward pass, `drawing.js` from strokes to pixels, `strangeness.js`, `examples.js` the page's
proof of itself, `arithmetic.js` the sum behind a value, `state.js` what is on the pad, `canvases.js` and `views.js`
what is shown, `page.js` how it hangs together. They are plain scripts, put one after the other: no library,
no build step.
"""

from lockstep.play.page import NAME, Left, Page, gather, render, write, write_play

__all__ = ["NAME", "Left", "Page", "gather", "render", "write", "write_play"]
