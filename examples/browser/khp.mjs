// KHP's extended handshake on a browser's own WebSocket. A browser hides from the page why a WebSocket was refused: no
// status, no challenge, no redirect. Here they are messages inside an open WebSocket, and the page can answer them.
//
//   const { socket, protocol } = await connect("ws://127.0.0.1:8000/", { protocols: ["echo"], credentials });
//
// credentials({ challenge, url, attempt }) returns the Authorization header for a server's challenge, or nothing to give
// up; it may be async. A refusal is an Error with the response { status, reason, headers, body } that decided it.

const KHP = "x-kaazing-handshake";
const COMPLETED = [101, 201, 204, 205];
const REDIRECTS = [300, 301, 302, 303, 307];

/** The Authorization header for a name and a password. */
export function basic(name, password) {
  const bytes = new TextEncoder().encode(`${name}:${password}`);
  return `Basic ${btoa(String.fromCharCode(...bytes))}`;
}

function writeRequest(url, protocols, authorization) {
  const { pathname, search } = new URL(url);
  const lines = [`GET ${pathname}${search} HTTP/1.1`];
  if (protocols.length > 0) lines.push(`Sec-WebSocket-Protocol: ${protocols.join(", ")}`);
  if (authorization) lines.push(`Authorization: ${authorization}`);
  return `${lines.join("\r\n")}\r\n\r\n`;
}

function parseResponse(data) {
  const text = typeof data === "string" ? data : new TextDecoder().decode(data);
  const end = text.indexOf("\r\n\r\n");
  const [first, ...fields] = text.slice(0, end).split("\r\n");
  const status = /^HTTP\/1\.[01] ([1-5]\d\d)(?: (.*))?$/.exec(first);
  if (end < 0 || !status) throw new Error("the server's answer is not an HTTP response");
  const headers = {};
  for (const field of fields) {
    const colon = field.indexOf(":");
    headers[field.slice(0, colon).toLowerCase()] = field.slice(colon + 1).trim();
  }
  return { status: Number(status[1]), reason: status[2] ?? "", headers, body: text.slice(end + 4) };
}

// The URL of a redirect: http means ws, and no redirect leads from TLS to plaintext.
function target(location, from) {
  const url = new URL(location, from);
  url.protocol = url.protocol.replace(/^http/, "ws");
  if (from.startsWith("wss:") && url.protocol !== "wss:") throw new Error(`${url} is not encrypted`);
  return url.href;
}

/** Resolves to an open WebSocket and the agreed subprotocol, whether the server speaks KHP or not. */
export function connect(url, { protocols = [], credentials, redirects = 5 } = {}) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url, [KHP, ...protocols]);
    socket.binaryType = "arraybuffer";
    let attempt = 0;

    function fail(message, response) {
      reject(Object.assign(new Error(message), { response }));
      socket.onmessage = null;
      socket.close();
    }

    function complete(protocol) {
      socket.onmessage = socket.onclose = socket.onerror = null;
      resolve({ socket, protocol });
    }

    async function answer(response) {
      const { status, reason, headers } = response;
      if (COMPLETED.includes(status)) {
        complete(headers["sec-websocket-protocol"] ?? "");
      } else if (status === 401) {
        attempt += 1;
        const given = await credentials?.({ challenge: headers["www-authenticate"], url: socket.url, attempt });
        if (given) socket.send(writeRequest(url, protocols, given));
        else fail(reason, response);
      } else if (REDIRECTS.includes(status) && headers.location && redirects > 0) {
        const next = target(headers.location, socket.url);
        socket.onmessage = null;
        socket.close();
        resolve(connect(next, { protocols, credentials, redirects: redirects - 1 }));
      } else {
        fail(reason, response);
      }
    }

    socket.onopen = () => {
      if (socket.protocol !== KHP) complete(socket.protocol);
      else socket.send(writeRequest(url, protocols));
    };
    socket.onmessage = async ({ data }) => {
      try {
        await answer(parseResponse(data));
      } catch (error) {
        fail(error.message);
      }
    };
    socket.onerror = () => reject(new Error("no connection")); // all that a browser says about a refused opening
    socket.onclose = ({ code, reason }) => reject(new Error(`closed with ${code} ${reason}`.trim()));
  });
}
