-- A server's policy: open from Monday to Friday, 9:00 to 17:00. The time is the session's, so that tests can set it.

local OFFSET = 1 * 3600 -- of local time from UTC
local FIRST, LAST = 9, 17

local function is_open(now)
  local here = os.date("!*t", math.floor(now) + OFFSET)
  local is_weekend = here.wday == 1 or here.wday == 7
  return not is_weekend and here.hour >= FIRST and here.hour < LAST
end

return {
  extended = function(request, session)
    if not is_open(session.now) then
      return reject(403, ("Open from Monday to Friday, %d to %d o'clock.\n"):format(FIRST, LAST))
    end
    return accept { protocol = request.protocols[1] }
  end,

  tests = [[
# The first second of Monday, and the last one of Friday

```khp
given now="Mon, 23 Nov 2026 08:00:00 GMT"
C binary
| GET /desk HTTP/1.1
|
S binary
| HTTP/1.1 101 Switching Protocols
* Upgrade and so on
S opens
```

```khp
given now="Fri, 27 Nov 2026 15:59:59 GMT"
C binary
| GET /desk HTTP/1.1
|
S binary
| HTTP/1.1 101 Switching Protocols
* Upgrade and so on
S opens
```

# One second later

```khp
given now="Fri, 27 Nov 2026 16:00:00 GMT"
C binary
| GET /desk HTTP/1.1
|
S binary
| HTTP/1.1 403 Forbidden
* Server, Date and so on
|
+ Open from Monday to Friday, 9 to 17 o'clock.\n
S close 1000
```

# Sunday

```khp
given now="Sun, 29 Nov 2026 11:00:00 GMT"
C binary
| GET /desk HTTP/1.1
|
S binary
| HTTP/1.1 403 Forbidden
* Server, Date and so on
S close 1000
```
]],
}
