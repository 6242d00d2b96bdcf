// The browser's side of the page: asks what is new and shows it.
//
// The server sends every row once; what is shown here stays, whether the connection breaks or the
// server forgets the page.
import { address, ask, Broken, leave, made, part, read, visit, wait } from "./browser_calls.js";
import { choose, drawChoices } from "./browser_choices.js";
import { drawSegments } from "./browser_inside.js";
import { keys } from "./browser_keys.js";
import { drawShared, share } from "./browser_share.js";
import {
  explain, explains, halt, listen, recording, whenRecordingBegins,
} from "./browser_sound.js";
import { drawVideo, holds, watch, working } from "./browser_video.js";

const BUSY_MS = 300;
const IDLE_MS = 2000;

let has = { era: -1, rows: 0 }; // of the transcript
let saved = 0; // rows that were downloaded
let drawn = []; // names of files
let listening = false;
let follows = true; // the reader looks at the newest row, not at older ones
let forgotten = false;

const text = (id, words) => {
  if (part(id).textContent !== words) part(id).textContent = words;
};

const toEnd = () => (document.querySelector(".dg-live").scrollTop = 1e9);

// The newest row stays in sight, also in a window that becomes smaller.
const follow = (log) => {
  log.addEventListener("scroll", () => {
    follows = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  });
  new ResizeObserver(() => follows && toEnd()).observe(log);
};

const drawLive = (told) => {
  const anew = told.era !== has.era;
  if (anew) {
    part("dg-rows").replaceChildren();
    saved = 0;
  } else if (told.since !== has.rows) return; // another answer was quicker
  part("dg-rows").insertAdjacentHTML("beforeend", told.rows.join(""));
  if (part("dg-open").innerHTML !== told.open) part("dg-open").innerHTML = told.open;
  has = { era: told.era, rows: told.count };
  document.querySelector(".dg-empty").hidden = Boolean(told.count || told.open);
  if (follows) toEnd();
  drawStatus(told);
  drawFiles(told.files);
  drawSegments(told.era, told.count);
};

const drawStatus = (told) => {
  listening = told.listening;
  text("dg-state", told.state);
  text("dg-clock", told.clock === "0:00" ? "" : told.clock);
  text("dg-lag", told.lag);
  text("dg-note", told.note);
  drawShared(told.shared);
  text("dg-problem", told.problem);
  part("dg-problem").hidden = !told.problem;
  const on = told.state === "Listening" && !told.lag && !told.problem;
  part("dg-state").parentElement.className = "dg-status " + (on ? "dg-on" : "dg-off");
};

// The links change with their names only: what they lead to is written when it is asked for.
const drawFiles = (names) => {
  const offered = has.rows ? names : [];
  if (offered.join() === drawn.join()) return;
  drawn = offered;
  part("dg-live-links").replaceChildren(...(offered.length ? [downloads(offered)] : []));
};

const downloads = (names) => {
  const list = made("div", { className: "dg-downloads" }, made("span", { textContent: "Download" }));
  for (const name of names) {
    const link = made("a", { href: address("live", name), download: name, textContent: name });
    if (name !== "live.wav") link.addEventListener("click", () => (saved = has.rows));
    list.append(link);
  }
  return list;
};

let wake = () => {};
const asleep = (ms) => Promise.race([wait(ms), new Promise((done) => (wake = done))]);

const look = async () => {
  const { number, lines, whole } = holds();
  const answer = await ask("state", { ...has, number, lines, whole });
  if (answer.status === 403) return forget();
  if (!answer.ok) return;
  const told = await read(answer);
  if (explains("unanswered")) explain("");
  drawLive(told.live);
  drawVideo(told.video);
};

// The server knows the page no more: it goes on by a new name, unless something would be lost by
// that.
const forget = async () => {
  if (loses()) return end();
  await visit();
  begin();
};

const loses = () => has.rows || recording();

const begin = () => {
  has = { era: -1, rows: 0 };
  drawChoices();
};

const end = () => {
  forgotten = true;
  if (recording()) halt();
  explain("forgotten");
};

// Back out of the browser's memory: by another name if the server has forgotten it meanwhile.
const back = async () => {
  const had = address("state");
  if ((await visit()) || address("state") === had) return;
  if (loses()) end();
  else begin();
};

const poll = async () => {
  while (!forgotten) {
    try {
      await look();
    } catch (error) {
      if (!(error instanceof Broken)) throw error;
      if (recording()) explain("unanswered");
    }
    await asleep(recording() || listening || working() ? BUSY_MS : IDLE_MS);
  }
};

const clear = async () => {
  const unsaved = has.rows > saved;
  if (unsaved && !confirm("Forget this transcript? It was not downloaded.")) return;
  try {
    await ask("clear", {}, { method: "POST" });
  } catch (error) {
    if (!(error instanceof Broken)) throw error;
    explain("unanswered");
  }
  wake();
};

const start = async () => {
  listen();
  follow(document.querySelector(".dg-live"));
  watch(() => wake());
  whenRecordingBegins(() => wake());
  document.addEventListener("click", (event) => event.target.closest("[role=tab]") && wake());
  part("dg-clear").addEventListener("click", clear);
  choose(recording);
  share();
  keys();
  window.addEventListener("beforeunload", (event) => {
    if (recording() || working() || has.rows > saved) event.preventDefault();
  });
  window.addEventListener("pagehide", leave);
  window.addEventListener("pageshow", (event) => event.persisted && back());
  for (let problem; (problem = await visit()); await wait(IDLE_MS)) {
    text("dg-problem", problem);
    part("dg-problem").hidden = false;
  }
  drawChoices();
  document.body.classList.add("dg-ready");
  await poll();
};

// Gradio draws the page's parts before or after this script has come.
const PARTS = ["dg-language", "dg-record", "dg-rows", "dg-live-links", "dg-keys-close"];
const complete = () => PARTS.every(part);
if (complete()) start();
else {
  const watched = new MutationObserver(() => {
    if (!complete()) return;
    watched.disconnect();
    start();
  });
  watched.observe(document.documentElement, { childList: true, subtree: true });
}
