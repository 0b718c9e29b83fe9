// One node of a cluster of Node's own Socket.IO servers, tuned as node_server.mjs is, on one of its two adapters for
// Redis, each made as its documentation shows: server.mjs PORT streams|pubsub REDIS_URL
import { createRequire } from "node:module";
import { createServer } from "node:http";

const require = createRequire(import.meta.url);
const { Server } = require("socket.io");
const { createClient } = require("redis");
const [port, kind, url] = [Number(process.argv[2]), process.argv[3], process.argv[4]];

async function adapter() {
  const client = createClient({ url });
  await client.connect();
  if (kind === "streams") return require("@socket.io/redis-streams-adapter").createAdapter(client);
  const ear = client.duplicate();
  await ear.connect();
  return require("@socket.io/redis-adapter").createAdapter(client, ear);
}

const http = createServer();
const io = new Server(http, {
  serveClient: false,
  perMessageDeflate: false,
  httpCompression: false,
  ...(kind ? { adapter: await adapter() } : {}),
});

io.engine.on("connection", (rawSocket) => {
  rawSocket.request = null;
});

io.on("connection", (socket) => {
  socket.on("join", ({ rooms }, ack) => {
    socket.join(rooms);
    ack(rooms.length);
  });
  socket.on("publish", ({ room, texts }) => {
    for (const text of texts) io.to(room).emit("msg", text);
  });
});

http.listen(port, "127.0.0.1", 4096);
