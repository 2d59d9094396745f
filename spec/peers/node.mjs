// The puppet on Node's built-in WebSocket: node node.mjs URL

import { obey } from "./puppet.mjs";

obey(WebSocket, process.argv[2], {}, () => process.exit());
