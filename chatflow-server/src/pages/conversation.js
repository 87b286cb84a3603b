// What was said in a room, as lines on the page: in the order of positions, each message once, text only as text.

import { comparePositions } from "./connection.js";

const PAGE = 50; // older messages fetched at a time
const MOST_LINES = 1_000; // beyond this the oldest go; scrolling up brings them back
const GROUP_MS = 5 * 60_000; // lines of one sender within this time share their header
const NEAR = 80; // pixels from an end that count as being there

const $ = (id) => document.getElementById(id);
const element = (name, className, text = "") => Object.assign(document.createElement(name), { className, textContent: text });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const calendar = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const isToday = (at) => at.toDateString() === new Date().toDateString();

export class Conversation {
  #room;
  #me;
  #giveUp;
  #lines = new Map(); // by message id
  #pending = new Map(); // by message id: sent, and not yet seen among the broadcasts
  #listeners = new AbortController();
  #loading = false;
  #complete = false;
  #unseen = 0;
  #pinned = true;

  constructor(room, me, giveUp) {
    this.#room = room;
    this.#me = me;
    this.#giveUp = giveUp;
    $("log").replaceChildren();
    $("pending").replaceChildren();
    $("older").hidden = true;
    $("jump").hidden = true;
    $("log").ariaBusy = "true"; // what was said before is not read out
    const { signal } = this.#listeners;
    $("scroll").addEventListener("scroll", () => this.#scrolled(), { signal });
    $("jump").addEventListener("click", () => this.#toEnd(), { signal });
    // The keyboard of a phone, a taller composer: whoever was at the end stays there.
    this.resizes = new ResizeObserver(() => this.#pinned && this.#toEnd());
    this.resizes.observe($("scroll"));
  }

  /** The first history is there; when it does not fill the page there is no scrolling up for more. */
  settle() {
    $("log").ariaBusy = "false";
    if ($("scroll").scrollHeight <= $("scroll").clientHeight + NEAR) this.#older();
  }

  close() {
    this.#listeners.abort();
    this.resizes.disconnect();
  }

  /** How many messages have no answer yet. */
  get waiting() {
    return this.#pending.size;
  }

  /** A broadcast. */
  add(message) {
    const mine = this.#pending.has(message.messageId);
    this.#unwait(message.messageId);
    this.#place(message);
    this.#groupPending();
    this.#trim();
    this.#arrived(mine ? 0 : 1);
  }

  /** A message of one's own, before the server has it. */
  expect(message) {
    const line = this.#line({ ...message, serverTimestamp: message.timestamp });
    line.classList.add("waiting");
    line.append(element("span", "fate", "Sending…"));
    this.#pending.set(message.messageId, line);
    $("pending").append(line);
    this.#groupPending();
    this.#toEnd();
  }

  /** The server has it for good. */
  confirm(id) {
    const line = this.#pending.get(id);
    line?.classList.remove("waiting");
    line?.querySelector(".fate")?.remove();
  }

  /** The server will not take it. */
  fail(id, why) {
    const line = this.#pending.get(id);
    if (!line) return;
    line.classList.replace("waiting", "failed");
    const again = Object.assign(element("button", "", "Edit again"), { type: "button", onclick: () => this.#giveUp(id) });
    const fate = element("span", "fate", `Not sent: ${why}`);
    fate.append(again);
    line.querySelector(".fate")?.replaceWith(fate);
    this.#arrived(0);
  }

  /** Takes a failed message away; its text. */
  forget(id) {
    const text = this.#pending.get(id)?.querySelector(".bubble").textContent;
    this.#unwait(id);
    this.#groupPending();
    return text;
  }

  /** What came between can't be had from the connection: says so, and asks the history. */
  async lost() {
    const rule = element("li", "rule warning", "Some messages may be missing");
    const last = $("log").lastElementChild;
    if (!last || last.classList.contains("warning")) return;
    last.after(rule);
    this.#arrived(0);
    const page = await this.#fetch("");
    for (const message of page?.messages ?? []) this.#place(message);
    this.#trim();
    this.#arrived(0);
  }

  #unwait(id) {
    this.#pending.get(id)?.remove();
    this.#pending.delete(id);
  }

  /** Puts a message where its position says, nearly always at the end. */
  #place(message) {
    if (this.#lines.has(message.messageId)) return;
    const line = this.#line(message);
    line.dataset.position = message.position;
    this.#lines.set(message.messageId, line);
    let before = $("log").lastElementChild;
    while (before && !(before.dataset.position && comparePositions(before.dataset.position, message.position) < 0)) {
      // A rule stays above what came after it.
      if (!before.dataset.position && !this.#earlierThan(before, message.position)) break;
      before = before.previousElementSibling;
    }
    if (before) before.after(line);
    else $("log").prepend(line);
    this.#group(line);
    this.#group(line.nextElementSibling);
    $("older").hidden = false;
    if (!this.#complete) $("older").textContent = "Scroll up for older messages";
  }

  /** Whether something after `rule` is later than `position`, so that a message of that position may go above it. */
  #earlierThan(rule, position) {
    for (let next = rule.nextElementSibling; next; next = next.nextElementSibling) {
      if (next.dataset.position) return comparePositions(position, next.dataset.position) < 0;
    }
    return false;
  }

  #line(message) {
    const { messageId, messageType, userId, username, serverTimestamp } = message;
    const at = new Date(serverTimestamp);
    if (messageType !== "TEXT") {
      const deed = { JOIN: "joined", LEAVE: "left" }[messageType] ?? message.message;
      const line = element("li", "announce", `${username} ${deed}`);
      line.dataset.id = messageId;
      return line;
    }
    const mine = String(userId) === this.#me;
    const line = element("li", mine ? "line mine" : "line");
    Object.assign(line.dataset, { id: messageId, sender: `${userId} ${username}`, at: at.getTime() });
    const who = element("div", "who");
    const when = Object.assign(element("time", "", isToday(at) ? clock.format(at) : calendar.format(at)), { dateTime: serverTimestamp, title: calendar.format(at) });
    who.append(element("b", "", mine ? "You" : username), when);
    line.append(who, element("div", "bubble", message.message));
    return line;
  }

  /** Whether a line begins a group depends on the one before it. */
  #group(line, before = line?.previousElementSibling) {
    if (!line?.dataset.sender) return;
    const same = before?.dataset.sender === line.dataset.sender && line.dataset.at - before.dataset.at < GROUP_MS;
    line.classList.toggle("first", !same);
  }

  /** What waits goes on where the conversation ends. */
  #groupPending() {
    let before = $("log").lastElementChild;
    for (const line of $("pending").children) {
      this.#group(line, before);
      before = line;
    }
  }

  #trim() {
    const log = $("log");
    // Whoever reads further up keeps the place for a while longer.
    while (log.childElementCount > (this.#pinned ? MOST_LINES : 4 * MOST_LINES)) {
      this.#lines.delete(log.firstElementChild.dataset.id);
      log.firstElementChild.remove();
      this.#complete = false;
      this.#group(log.firstElementChild);
    }
  }

  #arrived(count) {
    if (this.#pinned) {
      this.#toEnd();
      return;
    }
    this.#unseen += count;
    $("jump").hidden = this.#unseen === 0;
    $("jump").textContent = this.#unseen === 1 ? "1 new message ↓" : `${this.#unseen} new messages ↓`;
  }

  #toEnd() {
    this.#pinned = true;
    this.#unseen = 0;
    $("jump").hidden = true;
    $("scroll").scrollTop = $("scroll").scrollHeight;
  }

  #scrolled() {
    const scroll = $("scroll");
    this.#pinned = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < NEAR;
    if (this.#pinned) {
      this.#unseen = 0;
      $("jump").hidden = true;
    }
    if (scroll.scrollTop < NEAR) this.#older();
  }

  async #older() {
    const first = $("log").querySelector("[data-position]");
    if (this.#loading || this.#complete || !first) return;
    this.#loading = true;
    $("older").textContent = "Loading older messages…";
    const page = await this.#fetch(`&before=${encodeURIComponent(first.dataset.position)}`);
    const scroll = $("scroll");
    const fromEnd = scroll.scrollHeight - scroll.scrollTop;
    $("log").ariaBusy = "true"; // old news are not read out
    for (const message of (page?.messages ?? []).reverse()) this.#place(message);
    $("log").ariaBusy = "false";
    this.#complete = page !== null && page.previous === null;
    const words = page === null ? "Older messages can't be loaded just now" : "Scroll up for older messages";
    $("older").textContent = this.#complete ? "This is where the conversation begins" : words;
    scroll.scrollTop = scroll.scrollHeight - fromEnd;
    this.#loading = false;
  }

  /** A page of history; `null` when there is none to be had. */
  async #fetch(query) {
    try {
      const response = await fetch(`/api/v1/rooms/${encodeURIComponent(this.#room)}/messages?limit=${PAGE}${query}`);
      // A server without a history has said all that there is.
      if (response.status === 404) return { messages: [], previous: null };
      return response.ok ? await response.json() : null;
    } catch {
      return null;
    }
  }
}
