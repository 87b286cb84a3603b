// The page: entering a room, and wiring the conversation to its connection.

import { Connection, newId } from "./connection.js";
import { Conversation } from "./conversation.js";

const LONGEST = 500; // characters of one message
const MOST_WAITING = 100; // messages that wait for a connection

const $ = (id) => document.getElementById(id);
const memory = {
  get: (key) => {
    try {
      return localStorage.getItem(`chatflow.${key}`) ?? "";
    } catch {
      return "";
    }
  },
  set: (key, value) => {
    try {
      localStorage.setItem(`chatflow.${key}`, value);
    } catch {
      // A browser that keeps nothing can chat all the same.
    }
  },
};

function userId() {
  const known = memory.get("userId");
  if (/^[1-9]\d{0,5}$/.test(known) && Number(known) <= 100_000) return known;
  const chosen = String(1 + (crypto.getRandomValues(new Uint32Array(1))[0] % 100_000));
  memory.set("userId", chosen);
  return chosen;
}

// Who is logged in, for as long as the tab is open.
const login = {
  get: (name) => {
    try {
      const known = JSON.parse(sessionStorage.getItem("chatflow.login"));
      const good = known?.username.toLowerCase() === name.toLowerCase() && Date.parse(known.expiresAt) > Date.now();
      return good ? known : null;
    } catch {
      return null;
    }
  },
  set: (known) => {
    try {
      sessionStorage.setItem("chatflow.login", JSON.stringify(known));
    } catch {
      // Then a reload asks again.
    }
  },
};

/** Who has the name and password; throws what a person should be told. */
async function logIn(username, password) {
  const words = {
    401: "Name or password is wrong",
    404: "This server keeps no accounts: leave this empty",
    429: "Too many tries: wait a minute",
  };
  const headers = { "Content-Type": "application/json" };
  const request = { method: "POST", headers, body: JSON.stringify({ username, password }) };
  const response = await fetch("/api/v1/login", request).catch(() => null);
  if (!response?.ok) throw new Error(words[response?.status] ?? "The server can't tell just now: try again");
  return response.json();
}

const PLAIN_WORDS = {
  rate_limited: "You are sending faster than this server allows. It will go out in a moment.",
  overloaded: "The server is busy. Your message will be sent again.",
  unavailable: "The server can't save messages just now. Yours will be sent again.",
  draining: "The server is restarting. Your message will be sent again.",
  forbidden: "You are not allowed to do that here.",
  too_big: "That message is too long.",
};
// "message: must be 1 to 500 characters" names a field of the protocol, which a person need not know.
const sentence = (problem) => problem.replace(/^message: /, "it ");
const plainly = (error) => PLAIN_WORDS[error.code] || (error.errors ?? []).map(sentence).join("; ") || "That did not work.";

let chat = null;

class Chat {
  constructor(room, name, known) {
    this.room = room;
    this.name = name;
    this.user = known?.userId ?? userId();
    this.headers = known ? { Authorization: `Bearer ${known.token}` } : {};
    this.members = new Map();
    this.session = null;
    this.joined = this.message("JOIN", "joined the room");
    this.conversation = new Conversation(room, this.user, (id) => this.giveUp(id));
    this.connection = new Connection(room, known?.token, {
      state: (state, detail) => this.showState(state, detail),
      welcome: (event) => this.welcome(event),
      message: (message) => this.conversation.add(message),
      answer: (id) => this.conversation.confirm(id),
      refused: (id, error) => id !== this.joined.messageId && this.conversation.fail(id, plainly(error)),
      trouble: (error) => this.showError(plainly(error)),
      event: (event) => this.event(event),
      ended: (code, reason) => this.ended(code, reason),
    });
  }

  message(messageType, text) {
    const said = { userId: this.user, username: this.name, message: text, messageType };
    return { messageId: newId(), roomId: this.room, ...said, timestamp: new Date().toISOString() };
  }

  say(text) {
    if (this.conversation.waiting >= MOST_WAITING) {
      this.showError("Too many messages are waiting for a connection.");
      return false;
    }
    const message = this.message("TEXT", text);
    this.conversation.expect(message);
    this.connection.send(message);
    this.showError("");
    return true;
  }

  giveUp(id) {
    const text = this.conversation.forget(id);
    if (text && !$("text").value) setText(text);
    $("text").focus();
  }

  welcome(event) {
    this.session = event.session;
    this.members.clear();
    this.showError("");
    if (!event.recovered) this.conversation.lost();
    // The same id each time: it names this session to the others, and is said once.
    this.connection.send(this.joined);
    this.fetchMembers();
    setTimeout(() => this.conversation.settle(), 500);
  }

  /** Presence events name everybody in small rooms; this does in large ones. */
  async fetchMembers() {
    try {
      const response = await fetch(`/api/v1/rooms/${encodeURIComponent(this.room)}/members`, { headers: this.headers });
      if (!response.ok) return;
      const { members } = await response.json();
      for (const member of members) this.members.set(member.session, { ...this.members.get(member.session), ...member });
      this.showMembers();
    } catch {
      // The events will tell.
    }
  }

  event(event) {
    if (event.event === "presence") {
      for (const member of event.joined) this.members.set(member.session, member);
      for (const session of event.left) this.members.delete(session);
      this.showMembers(event.count);
    } else if (event.event === "gap") {
      this.conversation.lost();
    }
  }

  showMembers(count = this.members.size) {
    $("members-count").textContent = Math.max(count, this.members.size);
    const nameOf = (member) => (member.session === this.session ? this.name : member.username || "Guest");
    const members = [...this.members.values()].sort((a, b) => nameOf(a).localeCompare(nameOf(b)));
    $("members-list").replaceChildren(
      ...members.map((member) => {
        const item = document.createElement("li");
        const avatar = document.createElement("span");
        avatar.className = "avatar";
        avatar.ariaHidden = "true";
        avatar.textContent = [...nameOf(member)][0]?.toUpperCase() ?? "?";
        const name = document.createElement("span");
        name.textContent = nameOf(member);
        if (member.session === this.session) {
          const you = document.createElement("span");
          you.className = "you";
          you.textContent = " (you)";
          name.append(you);
        }
        item.append(avatar, name);
        return item;
      }),
    );
  }

  showState(state, seconds) {
    const words = {
      connecting: "Connecting…",
      live: "Live",
      waiting: "Reconnecting",
      offline: "Offline. Waiting for a network.",
      ended: "Disconnected",
    };
    $("state").dataset.state = state === "ended" ? "offline" : state;
    $("state-text").textContent = words[state];
    // Beside the text that is read out, or every second would be.
    $("state-wait").textContent = state === "waiting" ? ` in ${seconds} s` : "";
  }

  showError(text) {
    $("error").textContent = text;
    $("error").hidden = !text;
  }

  ended(code, reason) {
    this.showState("ended");
    const words = { 1003: "There is no room of this name on this server.", 3500: "This server asks you to log in.", 3501: "You may not join this room." };
    if (code === 3500) login.set(null);
    if (code === 1003 || code >= 3500) return leave(words[code] ?? "The server ended the connection.", code === 3500 ? "password" : "room");
    this.showError(`The server ended the connection${reason ? `: ${reason}` : ""}. Leave the room and join again to go on.`);
  }

  close() {
    if (this.connection.live) this.connection.send(this.message("LEAVE", "left the room"));
    this.connection.close();
    this.conversation.close();
  }
}

function enter(room, name, known) {
  memory.set("room", room);
  memory.set("name", name);
  history.replaceState(null, "", `#${room}`);
  document.title = `${room} · ChatFlow`;
  $("room-title").textContent = room;
  $("enter").hidden = true;
  $("chat").hidden = false;
  chat = new Chat(room, name, known);
  chat.showMembers();
  $("text").focus();
}

function leave(why = "", field = "room") {
  chat?.close();
  chat = null;
  history.replaceState(null, "", location.pathname);
  document.title = "ChatFlow";
  $("chat").hidden = true;
  $("enter").hidden = false;
  tell(field, why);
  $(field).focus();
}

const HINTS = { room: $("room-hint").textContent, name: $("name-hint").textContent, password: $("password-hint").textContent };

function tell(field, problem) {
  $(field).setAttribute("aria-invalid", String(Boolean(problem)));
  $(`${field}-hint`).textContent = problem || HINTS[field];
}

let entering = false;
$("enter-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [room, name] = [$("room").value.trim(), $("name").value.trim()];
  const roomFits = /^[A-Za-z0-9_-]{1,64}$/.test(room);
  const nameFits = /^[A-Za-z0-9]{3,20}$/.test(name);
  tell("room", roomFits ? "" : "Use 1 to 64 letters, digits, “_” or “-”");
  tell("name", nameFits ? "" : "Use 3 to 20 letters or digits, without spaces");
  if (!roomFits) $("room").focus();
  else if (!nameFits) $("name").focus();
  if (!roomFits || !nameFits || entering) return;
  const password = $("password").value;
  entering = true;
  try {
    if (password) login.set(await logIn(name, password));
    tell("password", "");
    const known = login.get(name);
    enter(room, known?.username ?? name, known);
    $("password").value = "";
  } catch (error) {
    tell("password", error.message);
    $("password").focus();
  } finally {
    entering = false;
  }
});

function setText(text) {
  $("text").value = text;
  $("text").dispatchEvent(new Event("input"));
}

$("text").addEventListener("input", () => {
  const text = $("text");
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight + 2}px`;
  const left = LONGEST - [...text.value.trim()].length;
  $("left").hidden = left > 60;
  $("left").textContent = left;
  $("left").classList.toggle("over", left < 0);
});

$("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  const length = [...text].length;
  if (length > LONGEST) chat.showError(`A message holds ${LONGEST} characters; this one has ${length}.`);
  else if (length > 0 && chat.say(text)) setText("");
  $("text").focus();
});

$("leave").addEventListener("click", () => leave());

function showMembersPanel(shown) {
  const narrow = matchMedia("(max-width: 760px)").matches;
  $("chat").classList.toggle("show-members", narrow && shown);
  if (!narrow) $("chat").classList.toggle("no-members", !shown);
  $("members-button").ariaExpanded = String(shown);
}
const membersShown = () => getComputedStyle($("members")).display !== "none";
$("members-button").addEventListener("click", () => showMembersPanel(!membersShown()));
$("scroll").addEventListener("click", () => $("chat").classList.contains("show-members") && showMembersPanel(false));
addEventListener("keydown", (event) => event.key === "Escape" && $("chat").classList.contains("show-members") && showMembersPanel(false));

// A link such as /#lobby names a room; whoever has a name already goes straight in.
const linked = decodeURIComponent(location.hash.slice(1));
$("room").value = linked || memory.get("room") || "lobby";
$("name").value = memory.get("name");
if (linked && $("name").value) $("enter-form").requestSubmit();
else ($("name").value ? $("room") : $("name")).focus();
