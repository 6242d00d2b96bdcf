// Hears the microphone, and explains what is wrong with it.
//
// Sound leaves here in order and exactly once: one request at a time, repeated until it is answered,
// each with the place of its first sample. What waits is sent together. One recording is going on at
// most: while the browser asks for a microphone nobody can ask for another.
import { ask, Broken, part, wait } from "./browser_calls.js";

const EXPLAIN = {
  insecure:
    "Browsers give the microphone only to pages that come over https, or from this very " +
    "computer. Open this page as http://localhost:" + location.port + " on the computer that " +
    "runs it, or start it with --ssl-certfile and --ssl-keyfile and use https.",
  NotAllowedError:
    "The browser refused the microphone. Allow it for this page (the sign beside the address, " +
    "then Microphone), look whether the system's settings let the browser use it, and press " +
    "Record again. Pages need https or localhost for it.",
  NotFoundError:
    "No microphone was found. Plug one in or switch it on, and press Record again.",
  NotReadableError:
    "The microphone is there but gives no sound: another program may hold it. End that " +
    "program, or choose another microphone, and press Record again.",
  unanswered:
    "The server does not answer. What you say is kept for a minute, and sent when it is back.",
  forgotten:
    "The server does not know this page any more. What is shown stays until you load it again.",
  superseded: "Another tab of this page is recording: this one has stopped.",
  ended:
    "The microphone went away. Connect it, and press Record again; what was heard is kept.",
  muted:
    "The microphone is muted by the system or by a switch on it. Unmute it; recording goes on.",
  silent:
    "No sound at all comes from the microphone. Look whether it is muted, at its own switch or in " +
    "the system's sound settings, or choose another one. Recording goes on.",
  NotSupportedError:
    "This browser cannot take the rate at which the microphone runs. Set the microphone and the " +
    "loudspeaker to the same rate in the system's sound settings (48 kHz is usual), or use " +
    "Chrome, Edge or Safari.",
};
EXPLAIN.SecurityError = EXPLAIN.NotAllowedError;
EXPLAIN.OverconstrainedError = EXPLAIN.NotFoundError;
EXPLAIN.AbortError = EXPLAIN.NotReadableError;

let shown = "";
export const explain = (why) => {
  shown = why && (EXPLAIN[why] || "The microphone could not be opened (" + why + ").");
  part("dg-mic").textContent = shown;
  part("dg-mic").hidden = !shown;
};
export const explains = (why) => shown === EXPLAIN[why];

// Without these there is no microphone, and browsers hide them from pages that are not secure.
const secure = () => window.isSecureContext && navigator.mediaDevices && window.AudioWorkletNode;

const SILENT_S = 4; // of exact zeros, which no microphone gives that is on
const SEND_EVERY_MS = 250;
const SEND_AT_MOST_S = 5; // in one request
const KEEP_S = 60; // while the server does not answer
const TAP = `registerProcessor("dg-tap", class extends AudioWorkletProcessor {
  constructor() { super(); this.block = new Float32Array(1024); this.filled = 0; }
  process([channels]) {
    for (let i = 0; channels.length && i < channels[0].length; i++) {
      let sum = 0;
      for (const channel of channels) sum += channel[i];
      this.block[this.filled++] = sum / channels.length;
      if (this.filled === this.block.length) {
        this.port.postMessage(this.block);
        this.filled = 0;
      }
    }
    return true;
  }
});`;

class Take {
  // The context's rate is the browser's choice, unless it is named.
  constructor(stream, sampleRate) {
    this.stream = stream;
    this.context = new AudioContext(sampleRate ? { sampleRate } : {});
    this.rate = this.context.sampleRate;
    this.name = Date.now(); // grows from one recording of the page to the next
    this.waiting = []; // Int16Array blocks that were not sent yet
    this.samples = 0; // in them
    this.sent = 0; // samples that arrived
    this.silent = 0; // samples without any sound
    this.over = false;
  }

  async start() {
    const code = URL.createObjectURL(new Blob([TAP], { type: "text/javascript" }));
    await this.context.audioWorklet.addModule(code);
    URL.revokeObjectURL(code);
    const tap = new AudioWorkletNode(this.context, "dg-tap");
    tap.port.onmessage = (event) => this.hear(event.data);
    this.context.createMediaStreamSource(this.stream).connect(tap);
    tap.connect(this.context.destination); // silence; without it nobody would ask for sound
    await this.context.resume();
    this.send();
  }

  hear(block) {
    if (this.over) return;
    const sound = new Int16Array(block.length);
    let peak = 0;
    block.forEach((value, i) => {
      sound[i] = Math.max(-1, Math.min(1, value)) * 32767;
      peak = Math.max(peak, Math.abs(value));
    });
    meter(peak);
    this.notice(peak, block.length);
    if (this.samples > KEEP_S * this.rate) {
      this.samples -= this.waiting[0].length;
      this.sent += this.waiting.shift().length; // lost; its place stays empty
    }
    this.waiting.push(sound);
    this.samples += sound.length;
  }

  notice(peak, samples) {
    this.silent = peak ? 0 : this.silent + samples;
    if (this.silent > SILENT_S * this.rate && !shown) explain("silent");
    if (peak && explains("silent")) explain("");
  }

  async send() {
    while (!this.over || this.waiting.length) {
      if (this.waiting.length) await this.sendSome();
      else await wait(SEND_EVERY_MS / 2);
      if (!this.over) await wait(SEND_EVERY_MS);
    }
    await this.post("stop", {}, null);
  }

  async sendSome() {
    const blocks = [];
    let length = 0;
    while (this.waiting.length && length < SEND_AT_MOST_S * this.rate) {
      length += this.waiting[0].length;
      blocks.push(this.waiting.shift());
    }
    this.samples -= length;
    await this.post("hear", { rate: this.rate, at: this.sent }, new Blob(blocks));
    this.sent += length;
  }

  // Tries until the server answers, and ends the recording where it will not have it.
  async post(what, place, body) {
    for (let pause = 250; ; pause = Math.min(4000, 2 * pause)) {
      try {
        const answer = await ask(what, { take: this.name, ...place }, { method: "POST", body });
        if (explains("unanswered")) explain("");
        if (answer.ok) return;
        if (answer.status < 500 && answer.status !== 429) return this.refused(answer.status);
      } catch (error) {
        if (!(error instanceof Broken)) throw error;
        explain("unanswered");
      }
      await wait(pause);
    }
  }

  refused(status) {
    this.waiting = [];
    if (take === this) halt();
    if (!explains("superseded")) explain(status === 409 ? "superseded" : "forgotten");
  }

  stop() {
    this.over = true;
    for (const track of this.stream.getTracks()) track.stop();
    this.context.close();
  }
}

let take = null; // the recording that is going on
let asking = false; // for a microphone
let begun = () => {};

export const recording = () => Boolean(take);
export const whenRecordingBegins = (call) => (begun = call);

const meter = (peak) => {
  const level = Math.max(0, 1 + Math.log10(Math.max(peak, 1e-3)) / 3); // 60 dB
  part("dg-level").style.width = Math.round(100 * level) + "%";
};

export const record = async () => {
  if (take || asking) return;
  if (!secure()) return explain("insecure");
  asking = true;
  draw();
  await open();
  asking = false;
  draw();
  begun();
};

const open = async () => {
  const chosen = part("dg-devices").value;
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      audio: chosen ? { deviceId: { exact: chosen } } : true,
    });
    explain("");
    take = await begin(stream);
  } catch (error) {
    for (const track of stream?.getTracks() ?? []) track.stop();
    return explain(error.name);
  }
  const [track] = stream.getAudioTracks();
  attend(track, take);
  list(track.getSettings().deviceId);
};

// Firefox takes a microphone only into a context of its own rate.
const begin = async (stream) => {
  const { sampleRate } = stream.getAudioTracks()[0].getSettings();
  for (const rate of [undefined, sampleRate]) {
    const opened = new Take(stream, rate);
    try {
      await opened.start();
      return opened;
    } catch (error) {
      opened.context.close();
      if (error.name !== "NotSupportedError" || rate === sampleRate) throw error;
    }
  }
};

// What happens to the microphone while it is used.
const attend = (track, opened) => {
  track.addEventListener("ended", () => {
    if (take !== opened) return;
    halt();
    explain("ended");
  });
  track.addEventListener("mute", () => take === opened && explain("muted"));
  track.addEventListener("unmute", () => explains("muted") && explain(""));
  if (track.muted) explain("muted");
};

export const halt = () => {
  take.stop();
  take = null;
  meter(0);
  draw();
};

const draw = () => {
  const button = part("dg-record");
  button.textContent = asking ? "Starting …" : take ? "Stop" : "Record";
  button.disabled = asking;
  button.setAttribute("aria-pressed", String(Boolean(take)));
};

// Names of microphones are told only to pages that have used one.
const list = async (current) => {
  const found = (await navigator.mediaDevices.enumerateDevices()).filter(
    (device) => device.kind === "audioinput" && device.label,
  );
  const choice = part("dg-devices");
  choice.replaceChildren(
    ...found.map((d) => new Option(d.label, d.deviceId, false, d.deviceId === current)),
  );
  choice.hidden = found.length < 2;
};

// One was plugged in, or out.
const relist = () => list(part("dg-devices").value);

export const listen = () => {
  if (secure()) {
    relist();
    navigator.mediaDevices.addEventListener("devicechange", relist);
  } else explain("insecure");
  part("dg-record").addEventListener("click", () => (take ? halt() : record()));
  part("dg-devices").addEventListener("change", () => {
    if (!take) return;
    halt();
    record();
  });
};
