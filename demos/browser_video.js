// The Video tab: sends a file, shows what becomes of it, and lets rows and pictures move the player.
import { address, ask, part } from "./browser_calls.js";

let sending = null; // the request with a file under way
let has = { number: 0, lines: 0, whole: 0 }; // what is shown: of which file, how much
let running = false;
let woken = () => {};

export const holds = () => has;
export const working = () => Boolean(sending) || running;

const put = (id, html) => {
  if (part(id).innerHTML !== html) part(id).innerHTML = html;
};
const fill = (id, html) => (part(id).innerHTML = html);

const say = (html) => put("dg-video-line", html);
const line = (text, bad) => {
  const status = document.createElement("p");
  status.className = "dg-status " + (bad ? "dg-bad" : "dg-off");
  status.setAttribute("role", "status");
  status.textContent = text;
  return status.outerHTML;
};

// A bar; share null moves without an end, undefined takes it away.
const progress = (share, name) => {
  const bar = part("dg-progress");
  bar.className = share === undefined ? "" : "dg-progress";
  if (share === undefined) return bar.replaceChildren();
  bar.setAttribute("role", "progressbar");
  bar.setAttribute("aria-label", name);
  if (share === null) bar.removeAttribute("aria-valuenow");
  else bar.setAttribute("aria-valuenow", Math.round(100 * share));
  const done = bar.firstChild || bar.appendChild(document.createElement("div"));
  done.className = share === null ? "dg-unknown" : "";
  done.style.width = (share === null ? 100 : Math.round(100 * share)) + "%";
};

const empty = () => {
  has = { number: 0, lines: 0, whole: 0 };
  running = false;
  part("dg-table").querySelector("tbody").replaceChildren();
  for (const id of ["dg-watch", "dg-video-links", "dg-frames"]) fill(id, "");
  progress(undefined);
  part("dg-close").hidden = true;
};

// What the server says of the file; number 0: there is none.
export const drawVideo = (told) => {
  if (sending || !part("dg-file")) return; // the tab was not opened yet
  if (!told.number) return has.number ? (empty(), say("")) : undefined;
  if (told.number !== has.number) empty();
  part("dg-table").querySelectorAll("th").forEach((head, i) => (head.textContent = told.heads[i]));
  if (told.since === has.lines) {
    const rows = part("dg-table").querySelector("tbody");
    rows.insertAdjacentHTML("beforeend", told.rows.join(""));
    has = { ...has, number: told.number, lines: told.count };
  }
  running = told.running;
  part("dg-close").hidden = false;
  if (told.running) {
    say(told.status);
    return progress(told.share, "Translating " + told.name);
  }
  progress(undefined);
  if (!told.whole) return;
  has.whole = told.whole;
  say(told.status);
  fill("dg-watch", told.player || "");
  fill("dg-video-links", told.files || "");
  fill("dg-frames", told.gallery || "");
};

const send = (file) => {
  close();
  const request = new XMLHttpRequest(); // fetch does not tell how far it is
  sending = request;
  const said = "Sending " + file.name;
  say(line(said + " …"));
  part("dg-close").hidden = false;
  progress(0, said);
  request.upload.onprogress = (event) => progress(event.loaded / event.total, said);
  request.onloadend = () => {
    if (sending !== request) return; // it was given up
    over(request.status, request.responseText);
  };
  request.open("POST", address("video") + "?" + new URLSearchParams({ name: file.name }));
  request.send(file);
};

const over = (status, text) => {
  sending = null;
  if (status === 200) return woken();
  empty();
  let detail = "The connection broke while the file was sent: try again.";
  try {
    detail = JSON.parse(text).detail || detail;
  } catch (error) {
    if (status) detail = "The server refused the file (" + status + ").";
  }
  say(line(detail, true));
};

const clip = async () => {
  close();
  const request = new AbortController();
  sending = request;
  let status = 0;
  let text = "";
  try {
    const answer = await ask("clip", {}, { method: "POST", signal: request.signal });
    text = await answer.text();
    status = answer.status;
  } catch (error) {
    // It broke, or was given up.
  }
  if (sending === request) over(status, text);
};

const close = () => {
  const request = sending;
  sending = null;
  if (request) request.abort();
  const had = has.number;
  empty();
  say("");
  // By its number: the next file may come to the server sooner than this does.
  if (had) return ask("video", { number: had }, { method: "DELETE" }).catch(() => {});
};

const seek = (target) => {
  const player = document.querySelector(".dg-player");
  if (!player) return;
  player.currentTime = Number(target.dataset.seek);
  player.scrollIntoView({ block: "nearest", behavior: "smooth" });
};

// Media elements tell what happens to them on the way down only.
const follow = (player) => {
  const rows = [...document.querySelectorAll(".dg-table [data-seek]")];
  const begun = rows.filter((row) => Number(row.dataset.seek) <= player.currentTime);
  rows.forEach((row) => row.classList.toggle("dg-now", row === begun.at(-1)));
};

// The tab's parts are there once it was opened, so what happens to them is caught above them.
export const watch = (wake) => {
  woken = wake;
  document.addEventListener("change", (event) => {
    if (event.target.id !== "dg-file" || !event.target.files.length) return;
    send(event.target.files[0]);
    event.target.value = ""; // the same file may be chosen again
  });
  for (const name of ["dragover", "drop"])
    document.addEventListener(name, (event) => {
      if (!event.target.closest(".dg-drop")) return;
      event.preventDefault();
      if (name === "drop" && event.dataTransfer.files.length) send(event.dataTransfer.files[0]);
    });
  document.addEventListener("click", (event) => {
    if (event.target.closest("#dg-clip")) clip();
    if (event.target.closest("#dg-close")) close();
    const target = event.target.closest("[data-seek]");
    if (target) seek(target);
  });
  document.addEventListener("timeupdate", (event) => follow(event.target), true);
  document.addEventListener(
    "error",
    (event) => {
      if (event.target.matches && event.target.matches(".dg-player"))
        event.target.nextElementSibling.hidden = false;
    },
    true,
  );
};
