// The page of a viewer: shows each segment as it is now, in the language that was picked.
// The stream goes on by itself after a break: the browser tells the last place that it knows.

const KEPT = 200; // segments on the page
const AGAIN_MS = 5000;
const captions = document.querySelector("#captions");
const language = document.querySelector("#language");
const status = document.querySelector("#status");
const key = location.pathname.split("/").pop();
const shown = new Map(); // elements by segment
const told = new Map(); // what came, by segment
let size = 1.6;

function paragraph(code, text) {
  const line = document.createElement("p");
  line.lang = code;
  line.dir = "auto";
  const tail = document.createElement("span");
  tail.className = "tail";
  tail.textContent = text.tail;
  line.append(text.committed, tail);
  return line;
}

function show(segment) {
  const texts = Object.entries(told.get(segment).texts);
  const picked = texts.filter(([code]) => !language.value || code === language.value);
  if (!shown.has(segment)) {
    shown.set(segment, document.createElement("div"));
    captions.append(shown.get(segment));
  }
  shown.get(segment).replaceChildren(...picked.map(([code, text]) => paragraph(code, text)));
}

function offer(texts) {
  for (const [code, text] of Object.entries(texts)) {
    if (![...language.options].some((option) => option.value === code)) {
      language.append(new Option(text.language, code));
    }
  }
}

function forgetOld() {
  for (const segment of [...shown.keys()].slice(0, -KEPT)) {
    shown.get(segment).remove();
    shown.delete(segment);
    told.delete(segment);
  }
}

function take(caption) {
  const atEnd = innerHeight + scrollY >= document.body.scrollHeight - 120;
  told.set(caption.segment, caption);
  offer(caption.texts);
  show(caption.segment);
  forgetOld();
  if (atEnd) scrollTo(0, document.body.scrollHeight);
}

function resize(by) {
  size = Math.min(6, Math.max(1, size * by));
  document.documentElement.style.setProperty("--size", `${size}rem`);
}

// A refusal ends the stream for good, and an event does not say why: the page itself does.
async function again() {
  const page = await fetch(location.href, { cache: "no-store" }).catch(() => null);
  if (page?.status === 404) status.textContent = "Ended";
  else setTimeout(follow, AGAIN_MS);
}

function follow() {
  const stream = new EventSource(`../v1/captions/${key}`);
  stream.addEventListener("open", () => { status.textContent = "Live"; });
  stream.addEventListener("error", () => {
    status.textContent = "Connecting again …";
    if (stream.readyState === EventSource.CLOSED) again();
  });
  stream.addEventListener("caption", (event) => take(JSON.parse(event.data)));
  stream.addEventListener("end", () => {
    stream.close();
    status.textContent = "Ended";
  });
}

follow();
language.addEventListener("change", () => [...shown.keys()].forEach(show));
document.querySelector("#larger").addEventListener("click", () => resize(1.2));
document.querySelector("#smaller").addEventListener("click", () => resize(1 / 1.2));
document.querySelector("#full").addEventListener("click", () => {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.documentElement.requestFullscreen();
});
document.querySelector("#share").addEventListener("click", (event) => {
  const code = document.querySelector("#code");
  code.hidden = !code.hidden;
  event.currentTarget.setAttribute("aria-expanded", String(!code.hidden));
});
