// The demo page: one room over two wires, notifications, the secure namespace, a heartbeat.
// Whatever a person or the server wrote reaches the page as text, never as HTML.
import { Manager } from "/socket.io/socket.io.esm.min.js";

const KEPT = { messages: 500, toasts: 50, lines: 100 }; // the newest stay; a page left open must not grow
const ACK_PATIENCE = 8_000; // ms until a message without an answer counts as failed
const TYPING_REPEAT = 2_000; // ms between "still typing"; a typist unheard for three of them has stopped
const STABLE = 5_000; // ms a connection must last before its next loss counts as the first
const asked = new URLSearchParams(location.search);
const autoconnect = asked.get("autoconnect") !== "0";
let room = asked.get("room")?.trim() || "lobby";

// ── Small things ────────────────────────────────────────────────────────────────────────────────

const $ = (id) => document.getElementById(id);

function el(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children.map((child) => (child instanceof Node ? child : String(child ?? ""))));
  return node;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const clockWithSeconds = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const moment = (timestamp) => new Date(Date.parse(timestamp) || Date.now());

function timeOf(timestamp) {
  const at = moment(timestamp);
  return el("time", { dateTime: at.toISOString(), title: at.toLocaleString() }, clock.format(at));
}

/** The same name has the same colour everywhere on the page. */
function avatar(name) {
  const hue = [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7);
  const badge = el("span", { className: "avatar", ariaHidden: "true" }, [...name][0]?.toUpperCase() ?? "?");
  badge.style.setProperty("--hue", hue);
  return badge;
}

/** crypto.randomUUID exists in secure contexts only; a phone that opens http://192.168… has none. */
function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function trim(list, most) {
  while (list.childElementCount > most) list.firstElementChild.remove();
}

const webSocketUrl = (path) => new URL(path, location.href.replace(/^http/, "ws"));
const pathPart = (text) => encodeURIComponent(text.toWellFormed());
const refusalOf = (connectError) => explain({ message: connectError.message, code: connectError.data?.code });
const explain = (error) => (error.code ? `${error.message} (${error.code})` : error.message);

/** Emit and wait: the acknowledged value, or an Error with the server's `code`. */
async function ask(socket, event, ...payload) {
  const answer = await socket.timeout(ACK_PATIENCE).emitWithAck(event, ...payload);
  if (answer?.error) throw Object.assign(new Error(answer.error.message), { code: answer.error.code });
  return answer;
}

/** One JSON frame of a plain WebSocket; anything else is an empty object, which no one listens for. */
function frameOf(data) {
  try {
    return Object(JSON.parse(data));
  } catch {
    return {};
  }
}

/** One room or topic at a time: leaves the former, then enters the wanted one. A wish made meanwhile is served next. */
class Place {
  at = null;
  #moving = false;

  constructor(wanted, { leave, enter, failed }) { Object.assign(this, { wanted, leave, enter, failed }); }

  async reach() {
    if (this.#moving) return;
    this.#moving = true;
    try {
      for (let tried = null; ![this.at, tried].includes(this.wanted()); ) await this.#step((tried = this.wanted()));
    } finally {
      this.#moving = false;
    }
  }

  async #step(next) {
    try {
      if (this.at) await this.leave(this.at);
      this.at = null;
      const entered = await this.enter(next);
      this.at = next;
      entered();
    } catch (error) {
      this.failed(next, error);
    }
  }
}

// ── Connection state ────────────────────────────────────────────────────────────────────────────

/** One state line: a word for people, `data-state` for style, and a countdown while waiting. */
class Status {
  kind = "idle";
  #ticking = 0;

  constructor(id, onChange = () => {}) {
    this.element = $(id);
    this.onChange = onChange;
  }

  get on() { return this.kind === "connected"; }
  get busy() { return ["connecting", "connected", "waiting"].includes(this.kind); }

  set(kind, text, until = 0, why = "") {
    clearInterval(this.#ticking);
    this.kind = kind;
    this.element.dataset.state = kind;
    // Screen readers hear "reconnecting" once, not every second of the countdown.
    const left = el("span", { ariaHidden: "true" });
    const tick = () => left.replaceChildren(` in ${Math.max(1, Math.ceil((until - Date.now()) / 1000))} s`);
    this.element.replaceChildren(el("span", {}, text, ...(until ? [left] : []), why));
    if (until) {
      tick();
      this.#ticking = setInterval(tick, 250);
    }
    this.onChange(kind);
  }
}

/** A plain WebSocket that returns by itself: 1 s doubling to 30 s, half of it random, so that clients do not
 *  return together. */
class Link {
  #socket = null;
  #timer = 0;
  #failures = 0;

  constructor(status, address, { opened = () => {}, text, lost = () => {} }) {
    Object.assign(this, { status, address, opened, text, lost });
    addEventListener("online", () => this.status.kind === "waiting" && this.open());
  }

  open() {
    if (this.#socket) this.lost();
    this.#drop();
    const socket = (this.#socket = new WebSocket(this.address()));
    let since = Infinity;
    this.status.set("connecting", "connecting…");
    socket.onopen = () => {
      since = Date.now();
      this.status.set("connected", "connected over websocket");
      this.opened();
    };
    socket.onmessage = ({ data }) => this.text(data);
    socket.onclose = (close) => {
      if (Date.now() - since > STABLE) this.#failures = 0;
      this.#ended(close);
    };
  }

  close() {
    this.#drop();
    this.#failures = 0;
    this.status.set("closed", "closed");
    this.lost();
  }

  send(text) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(text);
    return true;
  }

  #drop() {
    clearTimeout(this.#timer);
    if (!this.#socket) return;
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close(1000);
    this.#socket = null;
  }

  #ended({ code, reason }) {
    this.#socket = null;
    const final = code === 1008 || (code >= 4500 && code <= 4999);
    const told = reason ? `${code}: ${reason}` : `${code}`;
    if (final) {
      this.#failures = 0;
      this.status.set("lost", `closed with ${told}`);
    } else {
      const delay = this.#delay(code, reason);
      this.#timer = setTimeout(() => this.open(), delay);
      this.status.set("waiting", "reconnecting", Date.now() + delay, ` (closed with ${told})`);
    }
    this.lost();
  }

  /** Milliseconds. A draining server (4440) names a delay in seconds in its reason; never sooner than that. */
  #delay(code, reason) {
    const told = code === 4440 ? Math.min(Number(reason.match(/\d+(\.\d+)?/)?.[0] ?? 0), 60) * 1000 : 0;
    const full = Math.min(1000 * 2 ** this.#failures++, 30_000);
    return told + full * (0.5 + Math.random() / 2);
  }
}

// Three namespaces share one connection. The random part sits in the base delay, not in each delay:
// clients stay apart all the same, and the page knows what to count down to. Milliseconds.
const pace = { base: 700 + Math.random() * 800, most: 9_000 + Math.random() * 6_000, attempt: 0 };
const manager = new Manager(location.origin, {
  autoConnect: false,
  reconnectionDelay: pace.base,
  reconnectionDelayMax: pace.most,
  randomizationFactor: 0,
});
manager.on("close", () => { pace.attempt = 0; });
manager.on("reconnect_attempt", (attempt) => { pace.attempt = attempt; });

/** Show on `status` what happens to one namespace; `words` may replace the sentence for being connected or ended. */
function follow(socket, status, words = {}) {
  const transport = () => `connected over ${manager.engine.transport.name}`;
  const connected = () => status.set("connected", words.connected?.() ?? transport());
  const waiting = (why) => {
    if (!socket.active || socket.connected) return;
    status.set("waiting", "reconnecting", Date.now() + Math.min(pace.base * 2 ** pace.attempt, pace.most), why);
  };
  socket.on("connect", connected);
  manager.on("open", () => manager.engine.on("upgrade", () => socket.connected && connected()));
  manager.on("reconnect_attempt", () => socket.active && status.set("connecting", "connecting…"));
  manager.on("error", () => waiting(" (server not reached)"));
  socket.on("disconnect", (reason, details) => {
    const code = details?.context?.code;
    if (socket.active) waiting(code ? ` (closed with ${code})` : ` (${reason})`);
    else if (reason === "io client disconnect") status.set("closed", "closed");
    else status.set("lost", words.ended?.() ?? "closed by the server");
  });
  socket.on("connect_error", (error) => {
    if (socket.active) return; // the connection, not this namespace: the manager tries again
    status.set("refused", `refused: ${refusalOf(error)}`);
  });
}

function start(socket, status) {
  if (socket.active) socket.disconnect();
  status.set("connecting", "connecting…");
  socket.connect();
}

// ── What a chat pane is made of ─────────────────────────────────────────────────────────────────

/** The messages of one pane: each id once, in the server's order, at most KEPT.messages. */
class Transcript {
  #known = new Map();
  #unsent = [];
  #missed = 0;

  constructor(prefix) {
    [this.scroller, this.list, this.jump] = ["scroll", "list", "jump"].map((part) => $(`${prefix}-${part}`));
    this.jump.addEventListener("click", () => this.#toEnd());
    this.scroller.addEventListener("scroll", () => this.#atEnd() && this.#seen(), { passive: true });
    this.pinned = true;
    // A phone's keyboard shrinks the pane: whoever was reading the end goes on reading the end.
    new ResizeObserver(() => this.pinned && this.#toEnd()).observe(this.scroller);
  }

  /** A live message: at the end, or in the place of our own that waited for it. */
  add(message, own) {
    if (this.#known.has(message.id)) return;
    const waited = own && this.#unsent.find((entry) => entry.text === textOf(message));
    if (waited) this.confirm(waited, message);
    else this.#append(this.#build(message, own));
  }

  /** Stored messages: those not seen yet go where their time puts them. */
  merge(messages, isOwn) {
    this.scroller.ariaBusy = "true";
    for (const message of messages) {
      if (this.#known.has(message.id)) continue;
      const item = this.#build(message, isOwn(message));
      let before = this.list.lastElementChild;
      while (before && Number(before.dataset.at) > Number(item.dataset.at)) before = before.previousElementSibling;
      before ? before.after(item) : this.list.prepend(item);
      this.#group(item);
    }
    this.#bound();
    if (this.pinned) this.#toEnd();
    this.scroller.ariaBusy = "false";
  }

  /** Our own message before the server has answered. */
  pending(text, username) {
    const entry = { text, username, clientId: randomId() };
    entry.item = this.#build({ text, username, timestamp: new Date().toISOString() }, true);
    entry.item.classList.add("pending");
    entry.item.dataset.at = Infinity;
    this.#unsent.push(entry);
    this.#append(entry.item);
    this.#toEnd();
    return entry;
  }

  confirm(entry, { id, timestamp, durable }) {
    if (!this.#unsent.includes(entry)) return; // the broadcast came before the acknowledgement
    this.#forget(entry);
    if (this.#known.has(id)) return entry.item.remove(); // sent again, and it had arrived the first time
    entry.item.classList.remove("pending");
    entry.item.dataset.at = moment(timestamp).getTime();
    entry.item.dataset.id = id;
    this.#known.set(id, entry.item);
    entry.item.querySelector("time").replaceWith(timeOf(timestamp));
    if (durable === false) entry.item.append(el("p", { className: "trouble" }, "Kept on this server only for now"));
    if (entry.item.nextElementSibling) this.#append(entry.item);
    this.#group(entry.item);
  }

  fail(entry, reason, again) {
    if (!this.waiting.includes(entry)) return;
    entry.item.classList.replace("pending", "failed");
    const button = el("button", { type: "button" }, "Send again");
    const trouble = el("p", { className: "trouble" }, `Not sent: ${reason}`, button);
    button.addEventListener("click", () => {
      if (!again(entry)) return;
      trouble.remove();
      entry.item.classList.replace("failed", "pending");
    });
    entry.item.append(trouble);
    if (this.pinned) this.#toEnd();
  }

  failAll(reason, again) {
    for (const entry of this.waiting) this.fail(entry, reason, again);
  }

  get waiting() { return this.#unsent.filter(({ item }) => item.classList.contains("pending")); }

  note(text, bad = false, timestamp = undefined) {
    const item = el("li", { className: bad ? "system bad" : "system" }, text);
    const last = Number(this.list.lastElementChild?.dataset.at ?? 0);
    item.dataset.at = timestamp ? moment(timestamp).getTime() : Number.isFinite(last) ? last : Date.now();
    this.#append(item);
  }

  clear() {
    this.list.replaceChildren();
    this.#known.clear();
    this.#unsent = [];
    this.pinned = true;
    this.#seen();
  }

  #build(message, own) {
    const author = String(message.username ?? "");
    const who = own ? el("span", { className: "unseen" }, "You") : el("bdi", {}, author);
    const item = el("li", { className: own ? "message own" : "message" },
      el("p", { className: "meta" }, who, timeOf(message.timestamp)),
      avatar(author),
      el("p", { className: "text", dir: "auto" }, textOf(message)));
    Object.assign(item.dataset, { author, at: moment(message.timestamp).getTime() });
    if (message.id !== undefined) {
      item.dataset.id = message.id;
      this.#known.set(message.id, item);
    }
    return item;
  }

  #append(item) {
    this.list.append(item);
    this.#group(item);
    this.#bound();
    if (this.pinned) return this.#toEnd();
    this.jump.replaceChildren(`${++this.#missed} new ↓`);
    this.jump.hidden = false;
  }

  /** A line by the same author within three minutes stands closer and does not repeat the name. */
  #group(item) {
    for (const one of [item, item.nextElementSibling]) {
      const above = one?.previousElementSibling;
      if (!one) continue;
      const same = above?.matches(".message") && above.dataset.author === one.dataset.author
        && above.matches(".own") === one.matches(".own");
      one.classList.toggle("follows", Boolean(same && Math.abs(one.dataset.at - above.dataset.at) < 180_000));
    }
  }

  #bound() {
    while (this.list.childElementCount > KEPT.messages) {
      const oldest = this.list.firstElementChild;
      this.#known.delete(oldest.dataset.id);
      this.#unsent = this.#unsent.filter(({ item }) => item !== oldest);
      oldest.remove();
    }
  }

  #forget(entry) { this.#unsent = this.#unsent.filter((other) => other !== entry); }

  #atEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    this.pinned = scrollHeight - scrollTop - clientHeight < 40;
    return this.pinned;
  }

  #toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.pinned = true;
    this.#seen();
  }

  #seen() {
    this.#missed = 0;
    this.jump.hidden = true;
  }
}

const textOf = (message) => String(message.text ?? message.message ?? "");

/** Who is typing now; a name leaves by itself when nothing more is heard of it. */
class Typists {
  #names = new Map();

  constructor(id) { this.element = $(id); }

  set(name, typing) {
    clearTimeout(this.#names.get(name));
    this.#names.delete(name);
    if (typing) this.#names.set(name, setTimeout(() => this.set(name, false), TYPING_REPEAT * 3));
    this.#show();
  }

  clear() { for (const name of [...this.#names.keys()]) this.set(name, false); }

  #show() {
    const names = [...this.#names.keys()].map((name) => el("bdi", {}, name));
    const words = { 0: [], 1: [names[0], " is typing…"], 2: [names[0], " and ", names[1], " are typing…"] };
    this.element.replaceChildren(...(words[names.length] ?? [`${names.length} people are typing…`]));
  }
}

/** Name, state, transcript and composer; `wire` does the talking: connect, disconnect, move, deliver, typing. */
class Pane {
  constructor(prefix, name) {
    this.status = new Status(`${prefix}-state`, () => this.refresh());
    this.log = new Transcript(prefix);
    this.typists = new Typists(`${prefix}-typing`);
    for (const part of ["user", "toggle", "input", "send"]) this[part] = $(`${prefix}-${part}`);
    this.user.value = this.name = name;
    this.user.addEventListener("input", () => this.refresh());
    this.toggle.addEventListener("click", () => (this.#leaving ? this.wire.disconnect() : this.connect()));
    $(`${prefix}-who`).addEventListener("submit", (event) => this.#entered(event));
    $(`${prefix}-composer`).addEventListener("submit", (event) => this.#submit(event));
    this.input.addEventListener("keydown", (event) => this.#key(event));
    this.input.addEventListener("input", () => this.wire.typing?.(this.input.value.trim() !== ""));
    this.input.addEventListener("blur", () => this.wire.typing?.(false));
  }

  get ready() { return this.status.on && (this.wire.ready?.() ?? true); }
  get #renamed() { return this.user.value.trim() !== this.name; }
  get #leaving() { return this.status.busy && !this.#renamed; }
  isOwn = (message) => message.username === this.name;

  connect() {
    this.name = this.user.value = this.user.value.trim() || this.name;
    this.wire.connect();
    this.refresh();
  }

  refresh() {
    this.toggle.textContent = !this.status.busy ? "Connect" : this.#renamed ? "Rename" : "Disconnect";
    this.toggle.className = this.#leaving ? "calm" : "main";
    this.send.disabled = !this.ready;
  }

  #entered(event) {
    event.preventDefault();
    if (!this.status.busy || this.#renamed) this.connect();
  }

  #key(event) {
    // While an input method composes (Japanese, Chinese, Korean), Enter belongs to it.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    this.#submit(event);
  }

  #submit(event) {
    event.preventDefault();
    const text = this.input.value.trim();
    if (!text || !this.ready) return;
    this.input.value = "";
    this.wire.typing?.(false);
    const entry = this.log.pending(text, this.name);
    if (!this.wire.deliver(entry)) this.log.fail(entry, "not connected", this.wire.deliver);
  }
}

/** The members of the room, with the number of connections where a name has several. */
const members = {
  people: new Map(),
  shown: 24,

  set(list) {
    const known = list.map((one) => (typeof one === "string" ? { username: one } : one));
    this.people = new Map(known.map(({ username, connections = 1 }) => [username, connections]));
    this.show();
  },
  change(name, present) {
    present ? this.people.set(name, this.people.get(name) ?? 1) : this.people.delete(name);
    this.show();
  },
  show() {
    const names = [...this.people.keys()].sort((one, other) => one.localeCompare(other));
    const chips = names.slice(0, this.shown).map((name) => {
      const number = this.people.get(name);
      const several = number > 1 ? [el("span", { className: "quiet" }, `×${number}`)] : [];
      return el("li", { className: "person" }, avatar(name), el("bdi", {}, name), ...several);
    });
    const rest = names.length - this.shown;
    if (rest > 0) chips.push(el("li", { className: "quiet" }, `and ${rest} more`));
    $("members").replaceChildren(...chips);
  },
};

// ── The two wires ───────────────────────────────────────────────────────────────────────────────

function chatOverSocketIo(pane) {
  const socket = manager.socket("/chat", { auth: (give) => give({ username: pane.name }) });
  let told = 0; // when we last said that we are typing; 0 after saying that we stopped
  let refreshing = 0;

  const place = new Place(() => room, {
    leave: (former) => ask(socket, "leave", { room: former }),
    async enter(next) {
      const answer = await ask(socket, "join", { room: next });
      return () => next === room && entered(answer);
    },
    failed(next, error) {
      if (next === room && socket.connected) pane.log.note(`Could not join ${next}: ${explain(error)}`, true);
      pane.refresh();
    },
  });

  function entered({ history = [], members: present = [] }) {
    pane.log.merge(history, pane.isOwn);
    members.set(present);
    recount();
    pane.refresh();
  }

  /** Ask who is here, once for a burst of arrivals; how many connections a name has is known to the server only. */
  function recount() {
    clearTimeout(refreshing);
    refreshing = setTimeout(async () => {
      const here = place.at;
      const answer = here && socket.connected && (await ask(socket, "members", { room: here }).catch(() => null));
      if (answer && here === room) members.set(answer.members);
    }, 250);
  }

  function moved(verb) {
    return ({ room: where, username, timestamp }) => {
      if (where !== room) return;
      members.change(username, verb === "joined");
      if (verb === "left") pane.typists.set(username, false);
      if (username !== pane.name) pane.log.note(`${username} ${verb} the chat`, false, timestamp);
      recount();
    };
  }

  pane.wire = {
    ready: () => place.at === room,
    connect: () => start(socket, pane.status),
    disconnect: () => socket.disconnect(),
    move: () => socket.connected && place.reach(),
    deliver(entry) {
      if (!pane.ready) return false;
      ask(socket, "message", { room, text: entry.text, client_id: entry.clientId })
        .then((answer) => pane.log.confirm(entry, answer))
        .catch((error) => pane.log.fail(entry, explain(error), pane.wire.deliver));
      return true;
    },
    typing(typing) {
      if (!pane.ready || (typing ? Date.now() - told < TYPING_REPEAT : !told)) return;
      told = typing ? Date.now() : 0;
      socket.volatile.emit("typing", { room, typing });
    },
  };

  // With recovery the server has kept our rooms and sends what was missed: joining again would repeat it.
  socket.on("connect", () => {
    if (!socket.recovered) place.at = null;
    else recount();
    place.reach();
  });
  socket.on("disconnect", () => {
    told = 0;
    members.set([]);
    pane.typists.clear();
  });
  socket.on("message", (message) => {
    if (message.room !== room) return;
    pane.typists.set(message.username, false);
    pane.log.add(message, pane.isOwn(message));
  });
  socket.on("joined", moved("joined"));
  socket.on("left", moved("left"));
  socket.on("typing", ({ room: where, username, typing }) => {
    if (where === room && username !== pane.name) pane.typists.set(username, typing);
  });
  socket.on("error", ({ error } = {}) => error && pane.log.note(explain(error), true));
  follow(socket, pane.status);
}

function chatOverWebSocket(pane) {
  const address = () => {
    const url = webSocketUrl(`/ws/chat/${pathPart(pane.name)}`);
    url.search = new URLSearchParams({ room });
    return url;
  };

  /** This route sends no history, so it comes over HTTP; the ids keep a live message from standing there twice. */
  async function opened() {
    const here = room;
    try {
      const answer = await fetch(`/chat/${pathPart(here)}/history?limit=50`);
      const found = await answer.json();
      if (!answer.ok) throw Object.assign(new Error(found.message), { code: found.code });
      if (here === room) pane.log.merge(Array.isArray(found) ? found : found.messages, pane.isOwn);
    } catch (error) {
      if (here === room && pane.status.on) pane.log.note(`No history: ${explain(error)}`, true);
    }
  }

  function text(data) {
    const message = frameOf(data);
    if (message.is_system) pane.log.note(textOf(message), false, message.timestamp);
    else if (message.type === "error") trouble(message);
    else if (message.type === "user_typing") pane.typists.set(message.username, message.username !== pane.name);
    else if (message.id !== undefined) pane.log.add(message, pane.isOwn(message));
  }

  function trouble(error) {
    const oldest = pane.log.waiting[0]; // answers come in the order of the questions
    if (oldest) pane.log.fail(oldest, explain(error), pane.wire.deliver);
    else pane.log.note(explain(error), true);
  }

  const lost = () => {
    pane.typists.clear();
    pane.log.failAll("the connection ended before it came back", pane.wire.deliver);
  };
  const link = new Link(pane.status, address, { opened, text, lost });
  pane.wire = {
    connect: () => link.open(),
    disconnect: () => link.close(),
    move: () => pane.status.busy && link.open(),
    deliver(entry) {
      clearTimeout(entry.patience); // the echo is the acknowledgement of this route
      entry.patience = setTimeout(() => pane.log.fail(entry, "no echo came back", pane.wire.deliver), ACK_PATIENCE);
      return link.send(entry.text);
    },
  };
}

// ── Notifications ───────────────────────────────────────────────────────────────────────────────

function notifications() {
  const socket = manager.socket("/notify");
  const status = new Status("notify-state");
  const field = $("notify-topic");
  const result = $("notify-result");
  const levels = ["info", "success", "warning", "error"];
  let wanted = field.value;

  const place = new Place(() => wanted, {
    leave: (former) => ask(socket, "unsubscribe", { topic: former }),
    async enter(next) {
      await ask(socket, "subscribe", { topic: next });
      return () => status.set("connected", `listening to ${next}`);
    },
    failed: (next, error) => socket.connected && status.set("refused", `${next}: ${explain(error)}`),
  });

  function curl() {
    const title = new URLSearchParams({ title: "Hello", message: "From a terminal" });
    $("notify-curl").textContent = `curl -X POST '${location.origin}/notify/${pathPart(field.value.trim())}?${title}'`;
  }

  function toast({ id, level, title, message, topic, timestamp }) {
    const list = $("notify-list");
    const kind = levels.includes(level) ? level : "info";
    const origin = el("span", {}, el("span", { className: "level" }, kind), " · ", el("bdi", {}, topic));
    const item = el("li", { className: "toast" },
      el("p", { className: "meta" }, origin, timeOf(timestamp)),
      el("strong", { dir: "auto" }, title),
      el("p", { dir: "auto" }, message));
    Object.assign(item.dataset, { level: kind, id });
    list.prepend(item);
    while (list.childElementCount > KEPT.toasts) list.lastElementChild.remove();
  }

  function tell(kind, text) {
    result.dataset.kind = kind;
    result.textContent = text;
  }

  async function publish(event) {
    event.preventDefault();
    const [title, message, level] = ["title", "message", "level"].map((part) => $(`notify-${part}`).value.trim());
    tell("", "sending…");
    try {
      const answer = await fetch(`/notify/${pathPart(field.value.trim())}`, {
        method: "POST",
        headers: { "Content-Type": "application/json", "Idempotency-Key": randomId() },
        body: JSON.stringify({ title, message, level }),
      });
      const found = await answer.json().catch(() => ({}));
      const refusal = found.message ?? `The server answered ${answer.status}`;
      if (!answer.ok) throw Object.assign(new Error(refusal), { code: found.code });
      tell("ok", `sent: ${found.sent}`);
    } catch (error) {
      tell("bad", explain(error));
    }
  }

  follow(socket, status, { connected: () => (place.at ? `listening to ${place.at}` : undefined) });
  socket.on("connect", () => {
    if (!socket.recovered) place.at = null;
    place.reach();
  });
  socket.on("notification", toast);
  field.addEventListener("input", curl);
  $("notify-form").addEventListener("submit", publish);
  $("notify-topic-form").addEventListener("submit", (event) => {
    event.preventDefault();
    wanted = field.value = field.value.trim() || "orders";
    curl();
    if (socket.connected) place.reach();
    else start(socket, status);
  });
  curl();
  if (autoconnect) start(socket, status);
}

// ── The secure namespace ────────────────────────────────────────────────────────────────────────

function secure() {
  const socket = manager.socket("/secure", { auth: (give) => give({ token }) });
  const facts = $("secure-facts");
  const status = new Status("secure-state", (kind) => {
    for (const id of ["token-refresh", "secure-form", "secure-facts"]) $(id).hidden = kind !== "connected";
    $("token-disconnect").hidden = !status.busy;
    $("token-connect").className = status.busy ? "" : "main";
  });
  let token = "";
  let expired = false;
  let ticking = 0;

  /** A pasted token often brings a line break, quotes or the word Bearer along. */
  const pasted = () => $("token-input").value.replace(/^\s*Bearer\s+/i, "").replace(/[\s"']/g, "");

  function line(text, bad = false, timestamp = new Date().toISOString()) {
    const output = $("secure-output");
    output.append(el("p", { className: bad ? "bad" : "" }, timeOf(timestamp), el("bdi", {}, text)));
    trim(output, KEPT.lines);
    output.scrollTop = output.scrollHeight;
  }

  function expiry(until) {
    const left = Math.round((Date.parse(until) - Date.now()) / 1000);
    if (Number.isNaN(left)) return "never";
    if (left <= 0) return "now";
    return left < 120 ? `in ${left} s` : `at ${clock.format(moment(until))} (in ${Math.round(left / 60)} min)`;
  }

  function show({ user_id, scopes, expires_at }) {
    const when = el("dd", {}, expiry(expires_at));
    const allowed = [].concat(scopes ?? []).join(", ") || "none";
    facts.replaceChildren(
      el("dt", {}, "User"), el("dd", {}, el("bdi", {}, user_id)),
      el("dt", {}, "Scopes"), el("dd", {}, allowed),
      el("dt", {}, "Expires"), when,
    );
    clearInterval(ticking);
    ticking = setInterval(() => when.replaceChildren(expiry(expires_at)), 1000);
  }

  async function attempt(what, work) {
    try {
      await work();
    } catch (error) {
      line(`${what}: ${explain(error)}`, true);
    }
  }

  const whoami = () => attempt("whoami", async () => {
    const answer = await ask(socket, "whoami");
    show(answer);
    $("token-input").value = ""; // it works, so it need not stay on the screen
    line(`whoami: ${answer.user_id}`);
  });

  async function refresh() {
    await attempt("refresh", async () => {
      const next = pasted();
      await ask(socket, "refresh", { token: next });
      token = next; // a reconnect must show the newer one
      line("The token was replaced");
      await whoami();
    });
  }

  async function send(event) {
    event.preventDefault();
    const [to, text] = [$("secure-to").value.trim(), $("secure-text").value.trim()];
    if (!text) return;
    await attempt("message", async () => {
      await ask(socket, "message", to ? { to, text } : { text });
      $("secure-text").value = "";
      if (to) line(`to ${to}: ${text}`);
    });
  }

  follow(socket, status, { ended: () => (expired ? "token expired" : undefined) });
  socket.on("connect", whoami);
  socket.on("disconnect", () => clearInterval(ticking));
  socket.on("connect_error", (error) => !socket.active && line(`connect: ${refusalOf(error)}`, true));
  socket.on("message", ({ from, text, timestamp }) => line(`${from}: ${text}`, false, timestamp));
  socket.on("error", ({ error } = {}) => error && line(explain(error), true));
  socket.on("token_expired", () => {
    expired = true;
    line("The token has expired", true);
  });
  $("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    expired = false;
    token = pasted() || token; // an empty field means: the one from before
    start(socket, status);
  });
  $("token-input").addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    $("token-form").requestSubmit();
  });
  $("token-refresh").addEventListener("click", refresh);
  $("token-disconnect").addEventListener("click", () => socket.disconnect());
  $("secure-form").addEventListener("submit", send);
}

// ── Heartbeat ───────────────────────────────────────────────────────────────────────────────────

function heartbeat() {
  const toggle = $("heartbeat-toggle");
  const status = new Status("heartbeat-state", () => {
    toggle.textContent = status.busy ? "Disconnect" : "Connect";
    toggle.className = status.busy ? "calm" : "";
  });
  let last = "";
  let sentAt = 0;

  function show(trip = "") {
    status.set("connected", `connected, last ping ${last}${trip}`);
  }

  function pinged({ timestamp }) {
    const answer = $("heartbeat-answer").checked;
    last = `${clockWithSeconds.format(moment(timestamp))}, ${answer ? "answered" : "not answered"}`;
    show();
    if (answer) link.send(JSON.stringify({ type: "pong" }));
    sentAt = performance.now();
    link.send(JSON.stringify({ type: "probe", id: randomId() }));
    status.element.classList.remove("pulse");
    requestAnimationFrame(() => status.element.classList.add("pulse"));
  }

  function text(data) {
    const frame = frameOf(data);
    if (frame.type === "ping") pinged(frame);
    else if (frame.type === "ack") show(`, round trip ${(performance.now() - sentAt).toFixed(1)} ms`);
  }

  const opened = () => status.set("connected", "connected, waiting for a ping");
  const link = new Link(status, () => webSocketUrl("/ws/heartbeat"), { opened, text });
  toggle.addEventListener("click", () => (status.busy ? link.close() : link.open()));
  if (autoconnect) link.open();
}

// ── Start ───────────────────────────────────────────────────────────────────────────────────────

/** A name for somebody who has not chosen one; a reload keeps it. */
function nameFor(parameter) {
  const chosen = asked.get(parameter)?.trim();
  if (chosen) return chosen;
  const birds = ["wren", "heron", "finch", "lark", "robin", "swift", "plover", "siskin", "dunlin", "martin", "linnet"];
  const fresh = `${birds[Math.floor(Math.random() * birds.length)]}-${10 + Math.floor(Math.random() * 90)}`;
  try {
    const kept = sessionStorage.getItem(`name.${parameter}`) ?? fresh;
    sessionStorage.setItem(`name.${parameter}`, kept);
    return kept;
  } catch {
    return fresh; // storage is switched off
  }
}

const panes = [new Pane("sio", nameFor("user")), new Pane("raw", nameFor("raw"))];
chatOverSocketIo(panes[0]);
chatOverWebSocket(panes[1]);

$("room-input").value = room;
$("room-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const next = $("room-input").value.trim() || "lobby";
  $("room-input").value = next;
  if (next === room) return;
  room = next;
  const address = new URL(location.href);
  address.searchParams.set("room", room);
  history.replaceState(null, "", address);
  members.set([]);
  for (const pane of panes) {
    pane.log.clear();
    pane.typists.clear();
    pane.wire.move();
    pane.refresh();
  }
});

for (const pane of panes) {
  pane.refresh();
  if (autoconnect) pane.connect();
}
notifications();
secure();
heartbeat();
