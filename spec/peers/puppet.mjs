// A peer on strings: obeys the commands of a spec, which come over a connection of its own, and tells what happens to its
// WebSockets. It knows any WebSocket with the API of browsers, and runs in one; what else a program can do it is given
// as `skills`. A command or an event is one text message, its fields separated by tabs, payloads in hexadecimal:
//
//   connect ID URL PROTOCOLS      →  open ID PROTOCOL EXTENSIONS
//   enter ID URL USER PASSWORD PROTOCOLS   the same with the extended handshake of examples/browser/khp.mjs
//   send ID text|binary PAYLOAD   ←  message ID text|binary PAYLOAD
//   close ID [CODE [REASON]]      →  closed ID CODE REASON clean|torn
//   PROTOCOLS and EXTENSIONS are separated by commas.

import { basic, connect as enter } from "../../examples/browser/khp.mjs";

const OPENING = 0;
const utf8 = new TextEncoder();

const DIGITS = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

export function hex(bytes) {
  let text = "";
  for (const byte of bytes) text += DIGITS[byte];
  return text;
}

export function unhex(text) {
  const bytes = new Uint8Array(text.length / 2);
  for (let i = 0; i < bytes.length; i++) bytes[i] = parseInt(text.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}

export const list = (text) => (text ? text.split(",") : []);
const plain = (text) => new TextDecoder().decode(unhex(text));

/** Obeys until the spec lets go; `released` is called then. */
export function obey(WebSocket, strings, skills = {}, released = () => {}) {
  const master = new WebSocket(strings);
  const sockets = new Map();
  const say = (...fields) => master.send(fields.join("\t"));

  function opened(id, socket, protocol = socket.protocol) {
    say("open", id, protocol, socket.extensions);
  }

  function ended(id, ...how) {
    if (sockets.delete(id)) say("closed", id, ...how);
  }

  function watch(id, socket) {
    socket.binaryType = "arraybuffer";
    sockets.set(id, socket);
    socket.addEventListener("message", ({ data }) => {
      if (typeof data === "string") say("message", id, "text", hex(utf8.encode(data)));
      else say("message", id, "binary", hex(new Uint8Array(data)));
    });
    socket.addEventListener("close", ({ code, reason, wasClean }) => {
      ended(id, code, hex(utf8.encode(reason)), wasClean ? "clean" : "torn");
    });
    // "close" follows, but not everywhere where the opening fails.
    socket.addEventListener("error", () => socket.readyState === OPENING && ended(id, 1006, "", "torn"));
    return socket;
  }

  const commands = {
    connect(id, url, protocols, ...options) {
      const socket = skills.connect?.(url, list(protocols), ...options) ?? new WebSocket(url, list(protocols));
      watch(id, socket).addEventListener("open", () => opened(id, socket));
    },
    async enter(id, url, user, password, protocols) {
      const credentials = ({ attempt }) => attempt === 1 && basic(user, password);
      try {
        const { socket, protocol } = await enter(url, { protocols: list(protocols), credentials });
        watch(id, socket);
        opened(id, socket, protocol);
      } catch (error) {
        say("refused", id, error.response?.status ?? 0, error.message);
      }
    },
    send(id, kind, payload) {
      sockets.get(id).send(kind === "text" ? plain(payload) : unhex(payload));
    },
    close(id, code, reason) {
      const more = [Number(code), plain(reason ?? "")];
      sockets.get(id).close(...(code ? more : []));
    },
  };

  Object.assign(commands, skills.commands?.({ sockets, say, watch, opened }));

  master.addEventListener("message", async ({ data }) => {
    const [name, ...fields] = data.split("\t");
    try {
      await commands[name](...fields);
    } catch (error) {
      say("broken", fields[0] ?? "", name, error.message);
    }
  });
  master.addEventListener("close", released);
  master.addEventListener("error", released);
}
