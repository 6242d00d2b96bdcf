// The link by which others read the captions, and its QR code.
import { ask, Broken, part, read } from "./browser_calls.js";
import { explain } from "./browser_sound.js";

const HERE = /^(localhost|127\.|\[::1\])/;
const REACH =
  "This page is open to this computer alone, and so is the link. For phones and others start it " +
  "with --host 0.0.0.0, and with --ssl-certfile and --ssl-keyfile for a microphone on them.";

export const drawShared = (shared) => {
  const label = shared ? "Sharing" : "Share";
  if (part("dg-share").textContent !== label) part("dg-share").textContent = label;
};

const open = async () => {
  try {
    const base = new URL(".", location.href).href;
    const answer = await ask("share", {}, { method: "POST", body: base });
    const told = await read(answer);
    if (!answer.ok) return;
    const link = part("dg-link");
    link.href = link.textContent = base + told.path;
    part("dg-code").src = told.code;
    part("dg-reach").textContent = HERE.test(location.hostname) ? REACH : "";
    part("dg-reach").hidden = !HERE.test(location.hostname);
    part("dg-copied").textContent = "";
    drawShared(true);
    part("dg-share-dialog").showModal();
  } catch (error) {
    if (!(error instanceof Broken)) throw error;
    explain("unanswered");
  }
};

const end = async () => {
  try {
    const answer = await ask("share", {}, { method: "DELETE" });
    if (!answer.ok) return;
    drawShared(false);
    part("dg-share-dialog").close();
  } catch (error) {
    if (!(error instanceof Broken)) throw error;
    part("dg-copied").textContent = "The server does not answer: try again.";
  }
};

// Browsers let secure pages alone write to the clipboard.
const copy = async () => {
  try {
    await navigator.clipboard.writeText(part("dg-link").href);
    part("dg-copied").textContent = "Copied.";
  } catch (error) {
    getSelection().selectAllChildren(part("dg-link"));
    part("dg-copied").textContent = "Selected: copy it with Ctrl+C.";
  }
};

export const share = () => {
  part("dg-share").addEventListener("click", open);
  part("dg-unshare").addEventListener("click", end);
  part("dg-copy").addEventListener("click", copy);
  part("dg-share-close").addEventListener("click", () => part("dg-share-dialog").close());
};
