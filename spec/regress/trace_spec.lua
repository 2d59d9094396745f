-- What khp connect --trace leaves out stays left out when a head comes in several reads.

local command = require "spec.support.command"
local hand = require "spec.support.hand"

describe("a trace", function()
  it("shows no part of a cookie that comes in two reads", function()
    local peer, rest
    local server = hand.server(function(one)
      local request = one:http()
      local head = hand.switch(request, "Set-Cookie: session=TOPSECRETTOKEN; HttpOnly\r\nX-Last: 1\r\n", false)
      local at = head:find("SECRETTOKEN", 1, true)
      one:write(head:sub(1, at))
      peer, rest = one, head:sub(at + 1)
    end)
    local client = command.begin("connect --trace --wait forever " .. server.url .. "?access_token=TOPSECRETTOKEN")
    client:await_text("errors", "101 Switching Protocols")
    peer:write(rest .. peer:bytes_of(0x88, "\3\232"))
    local _, errors = client:finish()
    server:close()
    assert.matches("Set%-Cookie: %(not shown%)\n +X%-Last: 1\n", errors)
    assert.is_nil(errors:find("TOP", 1, true), errors)
    assert.is_nil(errors:find("TOKEN", 1, true), errors)
    assert.matches("GET /%?access_token=… HTTP/1.1\n", errors)
  end)
end)
