// The browser's side of the page: hears the microphone, explains what is wrong with it, and lets
// rows and pictures move the player.
//
// Sound leaves here in order and exactly once: one request at a time, repeated until it is answered,
// each with the place of its first sample. What waits is sent together.
(() => {
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
    forgotten: "The server has forgotten this page: reload it.",
    ended:
      "The microphone went away. Connect it, and press Record again; what was heard is kept.",
  };
  EXPLAIN.SecurityError = EXPLAIN.NotAllowedError;
  EXPLAIN.OverconstrainedError = EXPLAIN.NotFoundError;
  EXPLAIN.AbortError = EXPLAIN.NotReadableError;

  let shown = "";
  const show = () => {
    const box = document.getElementById("dg-mic");
    if (box && box.textContent !== shown) {
      box.textContent = shown;
      box.hidden = !shown;
    }
  };
  // The newest caption stays in sight, unless the reader has scrolled up to an older one.
  let following = true;
  const away = (box) => box.scrollHeight - box.scrollTop - box.clientHeight > 60;
  document.addEventListener(
    "scroll",
    (event) => {
      if (event.target.id === "dg-captions") following = !away(event.target);
    },
    true,
  );
  const follow = () => {
    const box = document.getElementById("dg-captions");
    if (box && following && away(box)) box.scrollTop = box.scrollHeight;
  };
  // The page's parts come later than this script, and may be drawn anew.
  setInterval(() => {
    show();
    follow();
  }, 200);
  const explain = (why) => {
    shown = why ? EXPLAIN[why] || "The microphone could not be opened (" + why + ")." : "";
    show();
  };

  // Without these there is no microphone, and browsers hide them from pages that are not secure.
  const secure = () => window.isSecureContext && navigator.mediaDevices && window.AudioWorkletNode;
  if (!secure()) explain("insecure");

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
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  const part = (id) => document.getElementById(id);
  let take = null; // the recording that is going on
  let asking = false; // for a microphone: meanwhile nobody may ask for another

  class Take {
    constructor(stream) {
      this.stream = stream;
      this.context = new AudioContext();
      this.rate = this.context.sampleRate;
      this.name = String(Math.random()).slice(2);
      this.waiting = []; // Int16Array blocks that were not sent yet
      this.samples = 0; // in them
      this.sent = 0; // samples that arrived
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
      if (this.samples > KEEP_S * this.rate) {
        this.samples -= this.waiting[0].length;
        this.sent += this.waiting.shift().length; // lost; its place stays empty
      }
      this.waiting.push(sound);
      this.samples += sound.length;
    }

    async send() {
      while (!this.over || this.waiting.length) {
        if (this.waiting.length) await this.sendSome();
        else await wait(SEND_EVERY_MS / 2);
        if (!this.over) await wait(SEND_EVERY_MS);
      }
      await post("stop", {}, null);
    }

    async sendSome() {
      const blocks = [];
      let length = 0;
      while (this.waiting.length && length < SEND_AT_MOST_S * this.rate) {
        length += this.waiting[0].length;
        blocks.push(this.waiting.shift());
      }
      this.samples -= length;
      const place = { rate: this.rate, take: this.name, at: this.sent };
      await post("hear", place, new Blob(blocks));
      this.sent += length;
    }

    stop() {
      this.over = true;
      for (const track of this.stream.getTracks()) track.stop();
      this.context.close();
    }
  }

  // Tries until the server answers; a page that it does not know any more gives up.
  const post = async (what, place, body) => {
    for (let pause = 250; ; pause = Math.min(4000, 2 * pause)) {
      try {
        const key = part("dg-key").dataset.key;
        const url = what + "/" + key + "?" + new URLSearchParams(place);
        const answer = await fetch(url, { method: "POST", body: body });
        if (answer.ok) {
          if (shown === EXPLAIN.unanswered) explain("");
          if ((await answer.json()).asleep) part("dg-wake").click();
          return;
        }
        if (answer.status < 500) return explain("forgotten");
      } catch (error) {
        if (!(error instanceof TypeError)) throw error; // fetch's sign of a broken connection
      }
      explain("unanswered");
      await wait(pause);
    }
  };

  const meter = (peak) => {
    const level = Math.max(0, 1 + Math.log10(Math.max(peak, 1e-3)) / 3); // 60 dB
    part("dg-level").style.width = Math.round(100 * level) + "%";
  };

  const record = async () => {
    if (take || asking) return;
    if (!secure()) return explain("insecure");
    asking = true;
    draw();
    await open();
    asking = false;
    draw();
  };

  const open = async () => {
    const chosen = part("dg-devices").value;
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({
        audio: chosen ? { deviceId: { exact: chosen } } : true,
      });
      explain("");
      take = new Take(stream);
      await take.start();
    } catch (error) {
      if (take) halt();
      return explain(error.name);
    }
    stream.getAudioTracks()[0].addEventListener("ended", () => {
      halt();
      explain("ended");
    });
    list(stream.getAudioTracks()[0].getSettings().deviceId);
  };

  const halt = () => {
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

  document.addEventListener("click", (event) => {
    if (event.target.closest && event.target.closest("#dg-record")) take ? halt() : record();
  });
  document.addEventListener("change", (event) => {
    if (event.target.id === "dg-devices" && take) {
      halt();
      record();
    }
  });

  document.addEventListener("click", (event) => {
    const target = event.target.closest && event.target.closest("[data-seek]");
    const player = document.querySelector(".dg-player");
    if (target && player) {
      player.currentTime = Number(target.dataset.seek);
      player.scrollIntoView({ block: "nearest", behavior: "smooth" });
    }
  });
  // What a media element tells does not bubble, but it can be caught on its way down.
  document.addEventListener(
    "timeupdate",
    (event) => {
      const rows = [...document.querySelectorAll(".dg-table [data-seek]")];
      const begun = rows.filter((row) => Number(row.dataset.seek) <= event.target.currentTime);
      rows.forEach((row) => row.classList.toggle("dg-now", row === begun.at(-1)));
    },
    true,
  );
  document.addEventListener(
    "error",
    (event) => {
      if (event.target.matches && event.target.matches(".dg-player")) {
        event.target.nextElementSibling.hidden = false;
      }
    },
    true,
  );
})();
