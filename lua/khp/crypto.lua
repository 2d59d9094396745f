-- The cryptography that handshakes need: hashes, HMAC, Base64, random bytes, and a comparison in constant time. It
-- comes from OpenSSL; this file says what there is. It must not know what a handshake is, or which algorithm is good
-- enough.

---@class khp.crypto
---@field accept fun(key: string): string  Sec-WebSocket-Accept of a Sec-WebSocket-Key (RFC 6455 4.2.2)
---@field is_key fun(key: string): boolean  is it 16 bytes in Base64, as a Sec-WebSocket-Key (RFC 6455 4.2.1)?
---@field random fun(n: integer): string  n unpredictable bytes, at most 1 MiB
---@field digest fun(name: string, bytes: string): string  raw; "md5" "sha1" "sha256" "sha512-256" …
---@field hmac fun(name: string, key: string, bytes: string): string  raw (RFC 2104)
---@field base64 fun(bytes: string): string  (RFC 4648 4)
---@field unbase64 fun(text: string): string?  nil for anything that base64 would not write
---@field hex fun(bytes: string): string  lower case
---@field crypt? fun(password: string, hash: string): string?  crypt(3): the hash of this password, made as the given
---  one was, or nil; bcrypt and its like are slow on purpose, and the loop stands still meanwhile. Absent where khp was
---  built without it
---@field equal fun(a: string, b: string): boolean  in a time that does not tell where they differ
local crypto = require("khp.core").crypto

return crypto
