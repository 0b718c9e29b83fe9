// A chat client in Node: prints what it sees in a room, says one line, and leaves.
//
//   npm install socket.io-client
//   node node_client.mjs --url http://127.0.0.1:8000 --user nora --room lobby --say "Hello from Node"
import { parseArgs } from "node:util";
import { io } from "socket.io-client";

const PATIENCE = 10_000; // ms
const { values: options } = parseArgs({
  options: {
    url: { type: "string", default: "http://127.0.0.1:8000" },
    user: { type: "string", default: "node" },
    room: { type: "string", default: "lobby" },
    say: { type: "string", default: "Hello from Node" },
  },
});

const socket = io(`${options.url}/chat`, { auth: { username: options.user } });

/** Emit and wait: the acknowledged value, or an error with the server's sentence. */
async function ask(event, data) {
  const answer = await socket.timeout(PATIENCE).emitWithAck(event, data);
  if (answer.error) throw new Error(`${event}: ${answer.error.message} (${answer.error.code})`);
  return answer;
}

const show = ({ username, text }) => console.log(`${username}: ${text}`);
const ownLine = new Promise((resolve) => {
  socket.on("message", (message) => {
    show(message);
    if (message.username === options.user && message.text === options.say) resolve();
  });
});
socket.on("joined", ({ username }) => console.log(`* ${username} joined`));
socket.on("left", ({ username }) => console.log(`* ${username} left`));

try {
  await new Promise((resolve, reject) => {
    socket.on("connect", resolve);
    // `active` means that the client tries again by itself; a refusal by the server is final.
    socket.on("connect_error", (error) => socket.active || reject(new Error(`refused: ${error.message}`)));
  });
  const { members, history } = await ask("join", { room: options.room });
  console.log(`* in ${options.room} with ${members.join(", ")}`);
  history.forEach(show);
  await ask("message", { room: options.room, text: options.say });
  await ownLine;
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  socket.disconnect();
}
