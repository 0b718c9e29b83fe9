// Node's own Socket.IO server under test, tuned as its documentation advises ("Performance tuning", "Memory usage"):
// native add-ons for ws, no compression, no client files, the handshake request not kept. A node of a cluster is told
// which of Node's two adapters for Redis it has, each made as its documentation shows:
// server.mjs PORT [streams|pubsub REDIS_URL]
import { createRequire } from "node:module";
import { createServer } from "node:http";

const require = createRequire(import.meta.url);
const { Server } = require("socket.io");
const [port, kind, url] = [Number(process.argv[2]), process.argv[3], process.argv[4]];

async function adapter() {
  const client = require("redis").createClient({ url });
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
  ...(process.env.BENCH_SERIALIZER === "msgpack" ? { parser: require("socket.io-msgpack-parser") } : {}),
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
  socket.on("spread", ({ prefix, rooms, text }) => {
    for (let number = 0; number < rooms; number++) io.to(prefix + number).emit("msg", text);
  });
  socket.on("echo", (text, ack) => ack(text));
  socket.on("count", (ack) => ack(io.of("/").sockets.size));
  socket.on("collect", (ack) => {
    globalThis.gc?.();
    ack(0);
  });
});

// What ws really uses is told, not assumed: without its prebuilt file an add-on falls back to JavaScript in silence.
http.listen(port, "127.0.0.1", 4096, () => {
  const native = Object.keys(require.cache).filter((file) => file.endsWith(".node"));
  console.log(JSON.stringify({ node: process.version, native: native.map((file) => file.split("/").pop()) }));
});
