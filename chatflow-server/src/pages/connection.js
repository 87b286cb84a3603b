// One room over one WebSocket at a time, in the dialect chatflow.v1: reconnects, resumes after the last message seen, and
// sends again what was not answered, under the same id. Knows nothing of the page.

const HISTORY = 50; // messages that come first on joining
const OPENING_MS = 10_000; // from connecting to the welcome
const ANSWER_MS = 10_000; // from sending to the answer; longer means that the connection is dead
const STABLE_MS = 5_000; // a connection that lasted so long was a good one
const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 10_000;
const COMES_BACK_NOT = [1000, 1002, 1003, 1007, 1008, 1009];

/** Orders two positions, "<epoch>:<offset>"; both are larger than what a Number holds. */
export function comparePositions(a, b) {
  const [epochA, offsetA] = a.split(":").map(BigInt);
  const [epochB, offsetB] = b.split(":").map(BigInt);
  if (epochA !== epochB) return epochA < epochB ? -1 : 1;
  return offsetA < offsetB ? -1 : offsetA > offsetB ? 1 : 0;
}

/** A UUIDv7: milliseconds, then chance. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  let ms = Date.now();
  for (let at = 5; at >= 0; at--) {
    bytes[at] = ms % 256;
    ms = Math.floor(ms / 256);
  }
  bytes[6] = (bytes[6] & 0x0f) | 0x70;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

export class Connection {
  #room;
  #protocols;
  #on;
  #socket = null;
  #timers = new Map();
  #attempts = 0;
  #hint = 0;
  #last = null;
  #live = false;
  #ended = false;
  #unanswered = new Map();

  /** With a token, as the user who has it. `on` has: state(name, detail), welcome(event), message(message), answer(id), refused(id, error), trouble(error), event(event), ended(code, reason). */
  constructor(room, token, on) {
    this.#room = room;
    this.#protocols = token ? ["chatflow.v1", `bearer.${token}`] : ["chatflow.v1"];
    this.#on = on;
    this.online = () => this.#now();
    this.offline = () => this.#lose();
    this.visible = () => document.visibilityState === "visible" && this.#now();
    addEventListener("online", this.online);
    addEventListener("offline", this.offline);
    document.addEventListener("visibilitychange", this.visible);
    this.#open();
  }

  /** Sends a message now or as soon as there is a connection, until it is answered. */
  send(message) {
    this.#unanswered.set(message.messageId, message);
    if (this.#live) this.#transmit(message);
  }

  /** Whether messages go out just now. */
  get live() {
    return this.#live;
  }

  /** Ends for good. */
  close() {
    this.#ended = true;
    removeEventListener("online", this.online);
    removeEventListener("offline", this.offline);
    document.removeEventListener("visibilitychange", this.visible);
    this.#drop();
  }

  #url() {
    const query = this.#last === null ? `history=${HISTORY}` : `after=${encodeURIComponent(this.#last)}`;
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    return `${scheme}//${location.host}/chat/${encodeURIComponent(this.#room)}?${query}`;
  }

  #open() {
    this.#drop();
    this.#on.state("connecting");
    const socket = new WebSocket(this.#url(), this.#protocols);
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    socket.onclose = ({ code, reason }) => this.#closed(code, reason);
    this.#after("opening", OPENING_MS, () => this.#lose());
  }

  /** Forgets the socket: whatever it still says is not heard. */
  #drop() {
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
    this.#live = false;
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    socket.onmessage = socket.onclose = null;
    socket.close(1000);
  }

  #lose() {
    if (this.#ended) return;
    this.#drop();
    this.#wait();
  }

  #closed(code, reason) {
    this.#drop();
    if (code === 3010) this.#last = null;
    if (COMES_BACK_NOT.includes(code) || (code >= 3500 && code < 4000)) {
      this.close();
      this.#on.ended(code, reason);
    } else {
      this.#wait();
    }
  }

  /** Comes back after a while that grows, at a random moment of it: not everybody at once. */
  #wait() {
    const most = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** this.#attempts++);
    const delay = this.#hint + Math.random() * most;
    this.#hint = 0;
    const at = Date.now() + delay;
    this.#after("reconnect", delay, () => this.#open());
    const tell = () => {
      const seconds = Math.ceil((at - Date.now()) / 1000);
      if (!navigator.onLine) this.#on.state("offline");
      else this.#on.state("waiting", Math.max(1, seconds));
      if (seconds > 1) this.#after("tell", 1000, tell);
    };
    tell();
  }

  /** There is reason to believe that waiting is over. */
  #now() {
    if (!this.#ended && this.#timers.has("reconnect")) this.#open();
  }

  #after(name, ms, what) {
    clearTimeout(this.#timers.get(name));
    const run = () => {
      this.#timers.delete(name);
      what();
    };
    this.#timers.set(name, setTimeout(run, ms));
  }

  #stop(name) {
    clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }

  #transmit(message) {
    this.#socket.send(JSON.stringify(message));
    // One watch for all: the oldest of them started it, and it is set again with each answer.
    if (!this.#timers.has("answer")) this.#after("answer", ANSWER_MS, () => this.#lose());
  }

  #receive(frame) {
    if (frame.status !== undefined) this.#answered(frame);
    else if (frame.event !== undefined) this.#event(frame);
    else this.#broadcast(frame);
  }

  #answered(frame) {
    const id = frame.messageId;
    this.#stop("answer");
    const message = this.#unanswered.get(id);
    if (frame.status.toUpperCase() === "SUCCESS") {
      this.#unanswered.delete(id);
      if (message) this.#on.answer(id);
    } else if (message && frame.retryable) {
      this.#after(`again ${id}`, frame.retryAfterMs ?? 1000, () => this.#unanswered.has(id) && this.#transmit(message));
      this.#on.trouble(frame);
    } else if (message) {
      this.#unanswered.delete(id);
      this.#on.refused(id, frame);
    } else {
      this.#on.trouble(frame);
    }
    const waits = [...this.#unanswered.keys()].some((key) => !this.#timers.has(`again ${key}`));
    if (waits) this.#after("answer", ANSWER_MS, () => this.#lose());
  }

  #event(event) {
    if (event.event === "welcome" && event.roomId !== undefined) {
      this.#stop("opening");
      // Without a message seen so far, what is missed until the first one follows this position. After a loss, too.
      if (this.#last === null || !event.recovered) this.#last = event.position;
      this.#live = true;
      this.#after("stable", STABLE_MS, () => (this.#attempts = 0));
      this.#on.state("live");
      for (const message of this.#unanswered.values()) this.#transmit(message);
      this.#on.welcome(event);
      return;
    }
    if (event.event === "reconnect") this.#hint = event.delayMs;
    if (event.event === "gap") this.#last = event.position;
    this.#on.event(event);
  }

  #broadcast(message) {
    this.#unanswered.delete(message.messageId);
    if (this.#last !== null && comparePositions(message.position, this.#last) <= 0) return;
    this.#last = message.position;
    this.#on.message(message);
  }
}
