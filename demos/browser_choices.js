// Languages and size of the next recording or file. The server checks what is chosen.
import { ask, Broken, choices, made, part, read } from "./browser_calls.js";

const FIELDS = { language: "dg-language", target_language: "dg-target", size: "dg-size" };

let offered = null;
let isRecording = () => false;

const say = (words) => (part("dg-chosen").textContent = words);

// A list with one entry is shown as a word.
const fill = (id, names, chosen) => {
  const list = part(id);
  const options = Object.entries(names).map(([code, name]) => new Option(name, code));
  list.replaceChildren(...options);
  list.value = chosen;
  list.disabled = options.length < 2;
};

const named = (codes) => Object.fromEntries(codes.map((code) => [code, offered.languages[code]]));

// What may be spoken, and what that may be translated into.
const spoken = () => {
  const codes = Object.keys(offered.targets);
  return codes.length ? codes : Object.keys(offered.languages);
};
const targets = (code) =>
  offered.targets[code] || Object.keys(offered.languages).filter((other) => other !== code);

const draw = (told) => {
  offered = told;
  const { language, target_language: target, size } = told.chosen;
  const sorted = Object.keys(told.languages).filter((code) => spoken().includes(code));
  fill("dg-language", named(sorted), language);
  fill("dg-target", named(targets(language)), target);
  fill("dg-size", told.sizes, size);
  const both = spoken().includes(target) && targets(target).includes(language);
  part("dg-swap").hidden = !both;
  part("dg-arrow").hidden = both;
};

export const drawChoices = () => choices && draw(choices);

const send = async (changed) => {
  try {
    const answer = await ask("choices", {}, { method: "POST", body: JSON.stringify(changed) });
    const told = await read(answer);
    if (answer.ok) draw(told);
    else draw(offered);
    say(answer.ok ? (isRecording() ? "From the next recording on." : "") : told.detail);
  } catch (error) {
    if (!(error instanceof Broken)) throw error;
    draw(offered);
    say("The server does not answer: choose again.");
  }
};

// Another spoken language may not go with the language that is written now.
const pick = (key) => {
  const changed = { [key]: part(FIELDS[key]).value };
  if (key === "language") {
    const possible = targets(changed.language);
    const target = offered.chosen.target_language;
    changed.target_language = possible.includes(target) ? target : possible[0];
  }
  send(changed);
};

export const choose = (recording) => {
  isRecording = recording;
  for (const [key, id] of Object.entries(FIELDS))
    part(id).addEventListener("change", () => pick(key));
  part("dg-swap").addEventListener("click", () => {
    const { language, target_language: target } = offered.chosen;
    send({ language: target, target_language: language });
  });
};
