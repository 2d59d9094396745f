-- What the protocol asks for, one row for each statement, in our own words. O: the opening handshake, E: the extended
-- handshake, S and a number: what a client does on that status code, H: the HTTP messages inside. Tests name the rows
-- that they prove in brackets at the end of their titles; scripts/conformance.lua finds them there.
-- This file must not know the code: it is what the code is held against.
--
-- Each row: ID, who it is for ("client", "server" or "both"), what is asked for. A fourth value, "codec", stands where
-- the row is about reading and writing messages alone, which both roles do with the same code.

local rows = {}

local function row(id, who, what, codec)
  rows[#rows + 1] = { id = id, who = who, what = what, codec = codec == "codec" }
end

-- The opening handshake -----------------------------------------------------------------------------------------------

row("O1", "client", "`x-kaazing-handshake` stands first among the subprotocols it asks for, before the application's "
  .. "in order of preference")
row("O2", "server", "agreeing, it answers with the subprotocol `x-kaazing-handshake`, wherever the client named it, in "
  .. "any spelling or number of header lines")
row("O3", "server", "not agreeing, it follows the plain rules: another subprotocol, none, or an HTTP status; by "
  .. "default it agrees")
row("O4", "both", "with `x-kaazing-handshake` chosen, the extended handshake comes before anything else")
row("O5", "client", "without it, there is no extended handshake: a plain WebSocket, or an error where `require_khp` "
  .. "says so")
row("O6", "client", "a subprotocol or an extension that was not requested fails the connection")

-- The extended handshake ----------------------------------------------------------------------------------------------

row("E1", "both", "begins only where the opening chose `x-kaazing-handshake`")
row("E2", "both", "until it is completed no other message: a server answers what is no request with 400 and closes; a "
  .. "client closes with 1011 on what is no response, or came before its request; the application sends nothing")
row("E3", "both", "messages are HTTP requests and responses, understood in text and binary, sent in binary")
row("E4", "client", "asks again for every subprotocol of the opening but `x-kaazing-handshake`")
row("E5", "client", "asks again for every extension that the opening asked for and did not get")
row("E6", "client", "asks for extensions with a list in order of preference, which is never empty")
row("E7", "client", "adds only what its policy wants, and never the opening's own headers")
row("E8", "server", "answers every extended request")
row("E9", "server", "answers 400 and closes with 1011 where a request names an extension that the opening negotiated")
row("E10", "client", "fails on a status that is not actionable, closes with 1011, and hands out status, headers "
  .. "and body")
row("E11", "both", "101 completes; a server's is a whole WebSocket response; a client checks what is there of it")
row("E12", "client", "300, 301, 302, 303 and 307 lead to a fresh opening at `Location`, within a maximum, without "
  .. "loops, 307 only after GET")
row("E13", "both", "after 401 the client replays its request with credentials, so many times and no more; a server "
  .. "closes when no replay comes in time")
row("E14", "both", "a response chooses extensions from those asked for, each once, never an empty list; a client "
  .. "closes on anything else, a server never sends it")
row("E15", "server", "may add headers; `Server` and `Date` are there in both handshakes")
row("E16", "client", "closes when the raw WebSocket closes, the handshake fails, or the extensions are not those "
  .. "asked for")
row("E17", "both", "the connection is open, with its subprotocol and extensions, only when the handshake is completed")
row("E18", "server", "closes a handshake that is not completed in time, and holds a bounded number of bytes for it")
row("E19", "server", "after a final response that does not complete, closes with 1000, and drops who does not answer")
row("E20", "both", "a subprotocol is chosen from those of both handshakes together; a client accepts none that it did "
  .. "not ask for")

-- Status codes --------------------------------------------------------------------------------------------------------

local function status(code, what)
  row("S" .. code, "client", what)
end

local CLOSE = ": close"
local LEADS = ": close; then a fresh opening at `Location`"

status(100, "Continue: send the body, if `Expect` asked for this")
status(101, "Switching Protocols: completed")
status(102, "Processing" .. CLOSE)
status(103, "Checkpoint" .. CLOSE)
status(122, "Request-URI too long" .. CLOSE)
status(200, "OK" .. CLOSE)
status(201, "Created: completed")
status(202, "Accepted: another response may be waited for, so long and no longer")
status(203, "Non-Authoritative Information" .. CLOSE)
status(204, "No Content: completed")
status(205, "Reset Content: completed")
status(206, "Partial Content" .. CLOSE)
status(207, "Multi-Status" .. CLOSE)
status(226, "IM Used" .. CLOSE)
status(300, "Multiple Choices" .. LEADS)
status(301, "Moved Permanently" .. LEADS)
status(302, "Found" .. LEADS)
status(303, "See Other" .. LEADS)
status(304, "Not Modified" .. CLOSE)
status(305, "Use Proxy" .. CLOSE)
status(306, "Switch Proxy" .. CLOSE)
status(307, "Temporary Redirect" .. LEADS .. ", if the method was GET")
status(308, "Resume Incomplete" .. CLOSE)
status(400, "Bad Request" .. CLOSE)
status(401, "Unauthorized: replay the request with credentials")
status(402, "Payment Required" .. CLOSE)
status(403, "Forbidden" .. CLOSE)
status(404, "Not Found" .. CLOSE)
status(405, "Method Not Allowed" .. CLOSE)
status(406, "Not Acceptable" .. CLOSE)
status(407, "Proxy Authentication Required: close; the client may authenticate with a proxy")
status(408, "Request Timeout" .. CLOSE)
status(409, "Conflict" .. CLOSE)
status(410, "Gone" .. CLOSE)
status(411, "Length Required" .. CLOSE)
status(412, "Precondition Failed" .. CLOSE)
status(413, "Request Entity Too Large" .. CLOSE)
status(414, "Request-URI Too Long" .. CLOSE)
status(415, "Unsupported Media Type" .. CLOSE)
status(416, "Requested Range Not Satisfiable" .. CLOSE)
status(417, "Expectation Failed" .. CLOSE)
status(418, "I'm a teapot" .. CLOSE)
status(422, "Unprocessable Entity" .. CLOSE)
status(423, "Locked" .. CLOSE)
status(424, "Failed Dependency" .. CLOSE)
status(425, "Unordered Collection" .. CLOSE)
status(426, "Upgrade Required: close; the client may open anew over TLS")
status(428, "Precondition Required" .. CLOSE)
status(429, "Too Many Requests" .. CLOSE)
status(431, "Request Header Fields Too Large" .. CLOSE)
status(444, "No Response" .. CLOSE)
status(449, "Retry With" .. CLOSE)
status(450, "Blocked by Windows Parental Controls" .. CLOSE)
status(499, "Client Closed Request" .. CLOSE)
status(500, "Internal Server Error" .. CLOSE)
status(501, "Not Implemented" .. CLOSE)
status(502, "Bad Gateway" .. CLOSE)
status(503, "Service Unavailable" .. CLOSE)
status(504, "Gateway Timeout" .. CLOSE)
status(505, "HTTP Version Not Supported" .. CLOSE)
status(506, "Variant Also Negotiates" .. CLOSE)
status(507, "Insufficient Storage" .. CLOSE)
status(509, "Bandwidth Limit Exceeded" .. CLOSE)
status(510, "Not Extended" .. CLOSE)
status(511, "Network Authentication Required" .. CLOSE)
status(598, "network read timeout" .. CLOSE)
status(599, "network connect timeout" .. CLOSE)

-- The HTTP messages inside --------------------------------------------------------------------------------------------

row("H1", "both", "request and status lines: any token as a method, an empty reason phrase, every form of request-URI "
  .. "(RFC 2616 5.1, 6.1)", "codec")
row("H2", "both", "header fields: names in any case, order and repetition kept, lists combined, folded lines read and "
  .. "never written (RFC 2616 4.2)", "codec")
row("H3", "both", "tokens, quoted strings, comments; no control character gets out through a value (RFC 2616 2.2)",
  "codec")
row("H4", "both", "bodies by `Content-Length`, in chunks, or none; lengths that conflict are refused (RFC 2616 4.4, "
  .. "3.6)", "codec")
row("H5", "both", "empty lines before a message are skipped, a bare LF is tolerated, or refused where strict (RFC 2616 "
  .. "4.1, 19.3)", "codec")
row("H6", "both", "versions are numbers: any 1.x is accepted, another major version gets 505, HTTP/1.0 no 1xx (RFC "
  .. "2616 3.1, RFC 2145)")
row("H7", "both", "dates are read in three formats and written in the first (RFC 2616 3.3.1)", "codec")
row("H8", "both", "`Expect: 100-continue` gets 100, and the body follows; any other expectation gets 417 (RFC 2616 "
  .. "8.2.3, 14.20)")
row("H9", "both", "challenges: several in one header or in many; Basic, Digest, Bearer, and Kaazing's `Application` "
  .. "forms (RFC 2616 14.47, RFC 2617)", "codec")
row("H10", "both", "a message may be spread over WebSocket messages and frames, and reads the same however it is cut")
row("H11", "both", "head, header count, line and body are bounded, each with an error of its own")

return rows
