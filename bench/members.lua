-- The policy of the handshake benchmark: who shows the one right credential comes in, anybody else is challenged.
local right = "Basic am9lOnNlY3JldA=="

return {
  extended = function(request)
    if request.headers.authorization ~= right then
      return challenge 'Basic realm="members"' -- luacheck: read globals challenge
    end
    return accept {} -- luacheck: read globals accept
  end,
}
