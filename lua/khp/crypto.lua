-- The cryptography that handshakes need: hashes, HMAC, Base64, random bytes, and a comparison in constant time. It
-- comes from OpenSSL; this file says what there is. It must not know what a handshake is, or which algorithm is good
-- enough.

---@class khp.crypto
--- The value of Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455 4.2.2).
---@field accept fun(key: string): string
--- Whether a string is a valid Sec-WebSocket-Key: 16 bytes in Base64 (RFC 6455 4.2.1).
---@field is_key fun(key: string): boolean
--- Returns n unpredictable bytes, at most 1 MiB.
---@field random fun(n: integer): bytes: string
--- Hashes bytes. Names: "md5", "sha1", "sha256", "sha512-256" and others that OpenSSL has. Returns raw bytes.
---@field digest fun(name: string, bytes: string): hash: string
--- HMAC (RFC 2104) with the named hash. Returns raw bytes.
---@field hmac fun(name: string, key: string, bytes: string): hash: string
--- Encodes in Base64 (RFC 4648 4).
---@field base64 fun(bytes: string): text: string
--- Decodes Base64. Returns nil for anything that base64() does not produce.
---@field unbase64 fun(text: string): bytes: string?
--- Encodes in hexadecimal, in lower case.
---@field hex fun(bytes: string): text: string
--- crypt(3): hashes a password with the algorithm and salt of an existing hash; nil if that is not possible. bcrypt and
--- similar hashes are slow by design, and block the event loop meanwhile. Absent if khp was built without it.
---@field crypt fun(password: string, hash: string): string?
--- Compares two strings in a time that does not reveal where they differ.
---@field equal fun(a: string, b: string): boolean
local crypto = require("khp.core").crypto

return crypto
