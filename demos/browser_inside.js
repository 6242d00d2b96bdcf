// The Inside tab: one sentence's sound, what the model gets of it, and when each word came.
//
// Everything lies on one time line, which begins where the sentence does. The server keeps the last
// few; the picture of one is asked for when it is looked at.
import { address, ask, Broken, made, part, read } from "./browser_calls.js";

const TICKS = [0.2, 0.5, 1, 2, 5]; // seconds between two marks
const MARKS = 12;

let known = ""; // what the list was made of
let looked; // the number of the sentence that is wanted
let pictured; // that of the picture, which comes later, or not where the connection breaks
let follows = true; // the newest one is shown

const isOpen = () => part("dg-inside")?.offsetParent;
const percent = (share) => (100 * share).toFixed(2) + "%";
const seconds = (value) => value.toFixed(2) + " s";

// Asks for the list where the transcript has grown since.
export const drawSegments = (era, rows) => {
  if (!isOpen() || known === era + ":" + rows) return;
  known = era + ":" + rows;
  refresh().catch((error) => {
    known = "";
    if (!(error instanceof Broken)) throw error;
  });
};

const refresh = async () => {
  const answer = await ask("inside");
  if (!answer.ok) return;
  const told = await read(answer);
  const numbers = told.map((segment) => segment.number);
  document.querySelector("#dg-inside .dg-empty").hidden = told.length > 0;
  if (!numbers.includes(looked)) follows = true;
  if (follows) looked = numbers[0];
  if (looked !== pictured) await look(looked);
  part("dg-segments").replaceChildren(...told.map(choice));
};

const choice = ({ number, text }) => {
  const button = made("button", { type: "button", className: "dg-quiet", textContent: text });
  button.dir = "auto";
  button.setAttribute("aria-pressed", String(number === looked));
  button.addEventListener("click", async () => {
    follows = number === Number(part("dg-segments").firstChild.dataset.number);
    await look(number).catch((error) => {
      known = ""; // it is asked for again
      if (!(error instanceof Broken)) throw error;
    });
    for (const other of part("dg-segments").children)
      other.setAttribute("aria-pressed", String(Number(other.dataset.number) === looked));
  });
  button.dataset.number = number;
  return button;
};

const look = async (number) => {
  looked = number;
  if (number === undefined) return draw(number);
  const answer = await fetch(address("inside", number)).catch(() => {
    throw new Broken();
  });
  if (!answer.ok) return;
  const told = await read(answer);
  if (looked === number) draw(number, picture(told), table(told));
};

const draw = (number, ...parts) => {
  part("dg-picture").replaceChildren(...parts);
  pictured = number;
};

// The rows of the picture, each with a name and a track; `place` maps seconds to shares of it.
const picture = (told) => {
  const ends = told.lanes.flatMap((lane) => lane.words.map((word) => word.committed));
  const end = Math.max(told.end, ...ends) + 0.05;
  const place = (at) => Math.max(0, Math.min(1, (at - told.start) / (end - told.start)));
  const sound = { start: told.start, end: told.end };
  const view = made(
    "div", { className: "dg-rows-of-time" },
    row("Sound", over(sound, place, waveform(told)), ...told.voice.map((v) => voice(v, place))),
    row("Log-mel", over(sound, place, made("img", { src: told.mel, alt: "Log-mel spectrogram" }))),
    row("Tokens", ...tokens(told, place)),
    row("Captions", ...told.updates.map((at) => mark("dg-update", at, place))),
    ...told.lanes.flatMap((lane) => lane.words.map((word) => bar(word, lane, place))),
    row("Seconds", ...scale(end - told.start)),
  );
  return made("div", {}, player(told, view, place), view, legend());
};

const row = (name, ...content) =>
  made(
    "div", { className: "dg-row" },
    made("span", { className: "dg-name", textContent: name }),
    made("div", { className: "dg-track" }, ...content),
  );

const at = (element, from, to) => {
  element.style.left = percent(from);
  if (to !== undefined) element.style.width = percent(Math.max(0, to - from));
  return element;
};

const over = ({ start, end }, place, element) => at(element, place(start), place(end));
const mark = (className, when, place) => at(made("i", { className }), place(when));
const voice = ([from, to], place) => at(made("i", { className: "dg-voice" }), place(from), place(to));

const waveform = ({ peaks }) => {
  const canvas = made("canvas", { width: 2 * peaks.length, height: 120 });
  const pen = canvas.getContext("2d");
  const loudest = Math.max(1, ...peaks.flat().map(Math.abs));
  pen.fillStyle = getComputedStyle(part("dg-inside")).getPropertyValue("--dg-accent");
  peaks.forEach(([low, high], x) => {
    const top = 60 - (56 * high) / loudest;
    pen.fillRect(2 * x, top, 2, Math.max(2, (56 * (high - low)) / loudest));
  });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "Waveform, voice marked below it");
  return canvas;
};

const tokens = ({ start, tokens: count, token_s: length }, place) =>
  Array.from({ length: count }, (_, i) =>
    at(
      made("i", { className: "dg-token" }),
      place(start + i * length),
      place(start + (i + 1) * length),
    ),
  );

// A word: where it was spoken, then until it was shown, then until it was committed.
const bar = (word, lane, place) => {
  const track = [];
  const shown = place(word.shown);
  const committed = place(word.committed);
  if (word.spoken) {
    const spoken = made("i", { className: "dg-spoken" });
    track.push(at(made("i", { className: "dg-wait" }), place(word.spoken[1]), shown));
    track.push(at(spoken, place(word.spoken[0]), place(word.spoken[1])));
  }
  track.push(at(made("i", { className: "dg-shown" }), shown, committed));
  track.push(mark("dg-committed", word.committed, place));
  const line = row(word.text, ...track);
  line.classList.add("dg-word", "dg-" + lane.which);
  line.firstChild.lang = lane.language;
  line.style.setProperty("--sure", word.sure === null ? 1 : 0.25 + 0.75 * word.sure);
  return line;
};

const scale = (length) => {
  const step = TICKS.find((tick) => length / tick <= MARKS) || TICKS.at(-1);
  const count = Math.floor(length / step);
  return Array.from({ length: count + 1 }, (_, i) => {
    const label = made("span", { className: "dg-tick", textContent: +(i * step).toFixed(1) });
    return at(label, (i * step) / length);
  });
};

const legend = () =>
  made(
    "p", { className: "dg-legend" },
    ...[
      ["dg-spoken", "spoken"], ["dg-wait", "until it is shown"],
      ["dg-shown", "shown, may change"], ["dg-committed", "committed"],
    ].map(([className, words]) => made("span", {}, made("i", { className }), words)),
    made("span", { textContent: "The paler a bar, the less sure the model is of the word." }),
  );

// The sentence is heard, and a line goes through the picture.
const player = (told, view, place) => {
  const sound = made("audio", { controls: true, preload: "none" });
  sound.src = address("inside", told.number, "sound.wav");
  sound.setAttribute("aria-label", "Sound of the sentence");
  const line = made("i", { className: "dg-head", hidden: true });
  view.append(line);
  const move = () => {
    line.hidden = sound.paused;
    line.style.setProperty("--at", place(told.start + sound.currentTime));
    if (!sound.paused) requestAnimationFrame(move);
  };
  for (const name of ["play", "pause", "ended"]) sound.addEventListener(name, move);
  return sound;
};

// The same figures for who does not see the picture.
const table = (told) => {
  const heads = ["Word", "Spoken", "Shown", "Committed", "How sure"];
  const from = (value) => seconds(value - told.start);
  const body = told.lanes.flatMap((lane) =>
    lane.words.map((word) => [
      word.text,
      word.spoken ? word.spoken.map(from).join(" – ") : "",
      from(word.shown),
      from(word.committed),
      word.sure === null ? "" : Math.round(100 * word.sure) + " %",
    ]),
  );
  const line = (tag, cells) =>
    made("tr", {}, ...cells.map((textContent) => made(tag, { textContent })));
  return made(
    "details", { className: "dg-figures" },
    made("summary", { textContent: "As a table" }),
    made(
      "table", { className: "dg-table" },
      made("thead", {}, line("th", heads)),
      made("tbody", {}, ...body.map((cells) => line("td", cells))),
    ),
  );
};
