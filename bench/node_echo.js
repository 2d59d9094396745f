// An echo server on Node's ws, for comparison. Prints its port.
"use strict";
const { WebSocketServer } = require("ws");

const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false }, () => {
  console.log(server.address().port);
});
server.on("connection", (socket) => {
  socket.on("message", (message, binary) => socket.send(message, { binary }));
});
