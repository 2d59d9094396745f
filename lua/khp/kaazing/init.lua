-- The dialect of Kaazing's clients and gateways (docs/protocol.md), in one place: all that the rest of khp has of it.
-- Both machines have the interface of khp.extended's, around which they are written, and go back to these where the
-- peer does not speak the dialect; so whoever drives a handshake, plays it in a test or writes it down need not know
-- which of them it is. This file must not know who that is.

local client = require "khp.kaazing.client"
local dialect = require "khp.kaazing.dialect"
local opening = require "khp.kaazing.opening"
local server = require "khp.kaazing.server"

local kaazing = {}

--- The machines: as khp.extended.server.new and khp.extended.client.new, see there.
kaazing.server, kaazing.client = server.new, client.new

--- A server's opening: a request that a client makes before it, what is agreed to without being told, and the form of
--- what was decided.
kaazing.asks_for_cookies, kaazing.extensions, kaazing.translate =
  opening.asks_for_cookies, opening.extensions, opening.translate

--- What a directive begins with.
kaazing.MARK = dialect.MARK

return kaazing
