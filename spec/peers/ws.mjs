// The puppet on the package ws, as a client and as a server: node ws.mjs URL FOLDER_OF_WS [CERTIFICATES]
//
//   connect …, listen ID PROTOCOLS tls|      OPTIONS: see deflate()
//   listen ID PROTOCOLS tls| OPTIONS   →  listening ID PORT, then for each connection: open ID.1 …
//   piece ID text|binary PAYLOAD more|last   one fragment of a message
//   ping ID PAYLOAD                    →  pong ID PAYLOAD
//   tear ID                               ends TCP without a close frame

import fs from "node:fs";
import http from "node:http";
import https from "node:https";
import { createRequire } from "node:module";
import { hex, list, obey, unhex } from "./puppet.mjs";

const [strings, folder, certificates] = process.argv.slice(2);
const { WebSocket, WebSocketServer } = createRequire(import.meta.url)(folder);

const certificate = (name) => fs.readFileSync(`${certificates}/${name}`);

// "deflate", and after it parameters as RFC 7692 writes them: "deflate;client_max_window_bits=9".
function deflate(text = "") {
  const [name, ...parameters] = text.split(";");
  if (name !== "deflate") return false;
  const options = { threshold: 0 };
  for (const parameter of parameters) {
    const [key, value] = parameter.split("=");
    options[key.replace(/_(.)/g, (_, letter) => letter.toUpperCase())] = value ? Number(value) : true;
  }
  return options;
}

function connect(url, protocols, options) {
  const ca = url.startsWith("wss:") ? certificate("ca.pem") : undefined;
  return new WebSocket(url, protocols, { perMessageDeflate: deflate(options), ca });
}

function commands({ sockets, say, watch, opened }) {
  return {
    listen(id, protocols, tls, options) {
      const wanted = list(protocols);
      const server = tls
        ? https.createServer({ cert: certificate("localhost.pem"), key: certificate("localhost.key") })
        : http.createServer();
      let count = 0;
      const sessions = new WebSocketServer({
        server,
        perMessageDeflate: deflate(options),
        maxPayload: 64 * 1024 * 1024,
        handleProtocols: (offered) => [...offered].find((name) => wanted.includes(name)) ?? false,
      });
      sessions.on("connection", (socket) => {
        count += 1;
        watch(`${id}.${count}`, socket);
        opened(`${id}.${count}`, socket);
      });
      server.listen(0, "127.0.0.1", () => say("listening", id, server.address().port));
    },
    piece(id, kind, payload, more) {
      sockets.get(id).send(unhex(payload), { binary: kind === "binary", fin: more === "last" });
    },
    ping(id, payload) {
      sockets.get(id).once("pong", (data) => say("pong", id, hex(data)));
      sockets.get(id).ping(unhex(payload));
    },
    tear(id) {
      sockets.get(id).terminate();
    },
  };
}

obey(WebSocket, strings, { connect, commands }, () => process.exit());
