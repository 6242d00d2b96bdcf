// Single keys, which can be switched off, and the captions in big text over the whole screen.
import { part } from "./browser_calls.js";

const OFF = "dragoman-keys-off";
const TABS = { 1: "Live", 2: "Video", 3: "Inside" };

const isBig = () => part("dg-captions").classList.contains("dg-big");

const big = (on) => {
  if (on) tab("Live");
  part("dg-captions").classList.toggle("dg-big", on);
  part("dg-big").setAttribute("aria-pressed", String(on));
  // Not every browser has a full screen to give; the captions fill its window then.
  if (on) document.documentElement.requestFullscreen?.().catch(() => {});
  else if (document.fullscreenElement) document.exitFullscreen();
  // The captions have the focus, so that arrows scroll them.
  (on ? document.querySelector(".dg-live") : part("dg-big")).focus({ preventScroll: true });
};

const tab = (name) => {
  const tabs = [...document.querySelectorAll("button[role=tab]")];
  tabs.find((button) => button.textContent.trim() === name)?.click();
};

const press = (id) => {
  if (id === "dg-record" || !isBig()) part(id).click();
};

const KEYS = {
  r: () => press("dg-record"),
  b: () => big(!isBig()),
  s: () => press("dg-share"),
  "?": () => press("dg-keys"),
};

// Where somebody writes, chooses, or reads a dialog, keys are for that.
const isTaken = (event) =>
  event.ctrlKey || event.metaKey || event.altKey || event.repeat ||
  document.querySelector("dialog[open]") ||
  event.target.closest("input, select, textarea, video, audio, [contenteditable]");

const pressed = (event) => {
  if (event.key === "Escape" && isBig()) return big(false);
  if (!part("dg-keys-on").checked || isTaken(event)) return;
  const act = KEYS[event.key.toLowerCase()];
  if (act) act();
  else if (TABS[event.key] && !isBig()) tab(TABS[event.key]);
  else return;
  event.preventDefault();
};

export const keys = () => {
  part("dg-keys-on").checked = !localStorage.getItem(OFF);
  part("dg-keys-on").addEventListener("change", (event) => {
    if (event.target.checked) localStorage.removeItem(OFF);
    else localStorage.setItem(OFF, "1");
  });
  part("dg-keys").addEventListener("click", () => part("dg-keys-dialog").showModal());
  part("dg-keys-close").addEventListener("click", () => part("dg-keys-dialog").close());
  part("dg-big").addEventListener("click", () => big(true));
  part("dg-small").addEventListener("click", () => big(false));
  document.addEventListener("keydown", pressed);
  // The browser's own key for leaving the full screen does not come here.
  document.addEventListener("fullscreenchange", () => {
    if (!document.fullscreenElement && isBig()) big(false);
  });
};
