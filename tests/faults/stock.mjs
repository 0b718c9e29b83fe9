// Stock clients: told on the standard input what to do, they tell on the standard output what they met.
import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const [list] = process.argv.slice(1);
const urls = JSON.parse(list);
const guests = new Map();
const say = (...what) => process.stdout.write(`${JSON.stringify(what)}\n`);
const anyUrl = (space) => urls[Math.floor(Math.random() * urls.length)] + space;

function come(i, space, rooms, transports) {
  const options = { forceNew: true, transports, reconnectionDelay: 50, reconnectionDelayMax: 500, timeout: 10000 };
  const socket = io(anyUrl(space), { ...options, autoConnect: false });
  const manager = socket.io;
  let known = false;
  let left = new Set(rooms);
  const enter = (room) => {
    if (!socket.connected) return;
    socket.emit("join", room, (answer) => {
      if (answer === room) {
        left.delete(room);
        say("joined", i, room);
      } else {
        say("refused", i, answer);
        setTimeout(enter, 500, room);
      }
    });
  };
  manager.on("reconnect_attempt", () => (manager.uri = anyUrl("")));
  manager.on("open", () => say("open", i, manager.uri, known));
  socket.on("connect", () => {
    say("connect", i, socket.recovered);
    known = true;
    if (!socket.recovered) left = new Set(rooms);
    left.forEach(enter);
  });
  socket.on("note", (data, offset) => say("note", i, data.id, typeof offset === "string" ? offset : null));
  socket.on("connect_error", (error) => say("error", i, error.message));
  socket.on("disconnect", (reason) => {
    say("gone", i, reason);
    if (reason === "io server disconnect") socket.connect();
  });
  guests.set(i, socket);
  socket.connect();
}

function cut(i, how) {
  const { engine } = guests.get(i).io;
  const { ws } = engine?.transport ?? {};
  if (how === "cut" && ws?.terminate) ws.terminate();
  else engine?.close();
}

const orders = {
  come,
  cut,
  away(i) {
    guests.get(i).io.reconnection(false);
    cut(i, "cut");
  },
  back(i) {
    const { io: manager } = guests.get(i);
    manager.reconnection(true);
    manager.uri = anyUrl("");
    guests.get(i).connect();
  },
};
createInterface({ input: process.stdin }).on("line", (line) => {
  const [order, ...rest] = JSON.parse(line);
  orders[order](...rest);
}).on("close", () => process.exit(0));
