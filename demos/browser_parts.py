"""What of the page does not change, as HTML. Scripts fill in the rest.

Below :mod:`demos.browser_page`, which puts each part in its place.

What changes each second is outside of what a screen reader tells.
"""

from dragoman.pipeline.inputs import MEDIA_SUFFIXES

HEADER = """<header class="dg-header"><h1>Dragoman</h1>
<form class="dg-choices" aria-label="For the next recording or file" autocomplete="off">
<select id="dg-language" aria-label="Spoken language"></select>
<button id="dg-swap" type="button" aria-label="Swap the languages" hidden>⇄</button>
<span id="dg-arrow" aria-hidden="true">→</span>
<select id="dg-target" aria-label="Language to translate into"></select>
<select id="dg-size" aria-label="Size of the model"></select>
<span id="dg-chosen" role="status"></span></form>
<small>{model}</small>
<button id="dg-keys" type="button" class="dg-quiet" aria-haspopup="dialog">Keyboard</button>
</header>"""

PROBLEMS = """<div id="dg-mic" class="dg-help" role="alert" hidden></div>
<div id="dg-problem" class="dg-help" role="alert" hidden></div>"""

LIVE_BAR = """<div class="dg-bar"><div class="dg-microphone">
<button id="dg-record" type="button" aria-pressed="false" aria-keyshortcuts="r">Record</button>
<div class="dg-meter" title="What the microphone hears" aria-hidden="true">
<div id="dg-level"></div></div>
<select id="dg-devices" aria-label="Microphone" hidden></select></div>
<p class="dg-status dg-off"><span id="dg-state" role="status">Ready</span>
<span id="dg-clock"></span> <span id="dg-lag"></span> <span id="dg-note" role="status"></span></p>
<div class="dg-tools">
<button id="dg-share" type="button" class="dg-quiet" aria-haspopup="dialog"
 aria-keyshortcuts="s">Share</button>
<button id="dg-big" type="button" class="dg-quiet" aria-pressed="false"
 aria-keyshortcuts="b">Big text</button>
<button id="dg-clear" type="button" class="dg-quiet">Clear</button></div></div>"""

LIVE = """<div class="dg-live" role="log" aria-label="Captions" tabindex="0">
<p class="dg-empty">Press <b>Record</b> and speak.
What you say appears here, with its translation.</p>
<div id="dg-rows"></div><div id="dg-open" aria-live="off"></div></div>
<button id="dg-small" type="button" class="dg-quiet">Leave big text</button>"""

LIVE_FILES = '<div id="dg-live-links"></div>'

UPLOAD = f"""<div class="dg-bar"><div class="dg-drop">
<label for="dg-file">Choose a video or audio file</label><span>or drop it here</span>
<input type="file" id="dg-file" accept="{",".join(sorted(MEDIA_SUFFIXES))}"></div>{{clip}}</div>"""
CLIP = '<button id="dg-clip" type="button" class="dg-main">Try the bundled clip</button>'

WORKING = """<div class="dg-working"><div id="dg-progress"></div><div id="dg-video-line"></div>
<button id="dg-close" type="button" class="dg-quiet" hidden>Close file</button></div>"""

TABLE = """<table class="dg-table"><thead><tr><th>Time</th><th></th><th></th></tr></thead>
<tbody></tbody></table>"""

INSIDE = """<div id="dg-inside"><p class="dg-empty">Record something. Each sentence, once it has
ended, can be looked into here: its sound, what the model gets of it, and when each word came.</p>
<div id="dg-segments" role="group" aria-label="Sentences"></div>
<div id="dg-picture"></div></div>"""

SHARE = """<dialog id="dg-share-dialog" class="dg-dialog" aria-labelledby="dg-share-title">
<h2 id="dg-share-title">Captions for others</h2>
<p>Whoever opens this link, or reads the code with a phone, sees your captions as they come, in
large text and the language of their choice. They hear nothing, and change nothing.</p>
<img id="dg-code" alt="QR code of the link">
<p><a id="dg-link" target="_blank" rel="noopener"></a></p>
<p id="dg-reach" class="dg-help" hidden></p>
<div class="dg-tools"><button id="dg-copy" type="button" class="dg-main">Copy the link</button>
<button id="dg-unshare" type="button" class="dg-quiet">Stop sharing</button>
<button id="dg-share-close" type="button" class="dg-quiet">Close</button></div>
<p id="dg-copied" role="status"></p></dialog>"""

KEYS = """<dialog id="dg-keys-dialog" class="dg-dialog" aria-labelledby="dg-keys-title">
<h2 id="dg-keys-title">Keyboard</h2>
<table><tbody>
<tr><th scope="row"><kbd>R</kbd></th><td>Record, and stop</td></tr>
<tr><th scope="row"><kbd>B</kbd></th><td>Big text, and back; <kbd>Esc</kbd> leaves it, too</td></tr>
<tr><th scope="row"><kbd>S</kbd></th><td>Share the captions</td></tr>
<tr><th scope="row"><kbd>1</kbd> <kbd>2</kbd> <kbd>3</kbd></th><td>Live, Video, Inside</td></tr>
<tr><th scope="row"><kbd>?</kbd></th><td>This list</td></tr>
</tbody></table>
<label><input type="checkbox" id="dg-keys-on" checked> Single keys do this</label>
<div class="dg-tools"><button id="dg-keys-close" type="button" class="dg-quiet">Close</button></div>
</dialog>"""
