-- A server's counters as a table, and as OpenMetrics 1.0 text for a monitoring system. A program uses server:stats()
-- and server:metrics() instead. This file must not know how the numbers come about.

local account = require "khp.account"
local core = require "khp.core"

local metrics = {}

local format = string.format

--- The media type of the text.
---@type string
metrics.TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

--- Counters since the server started; `connections` and `queued_bytes` are current values.
---@class khp.Stats
---@field connections integer open connections
---@field accepted integer accepted connections
---@field opened integer handshakes that led to a WebSocket
---@field opened_khp integer those of them with the extended handshake
---@field refused integer handshakes that were refused
---@field failed integer handshakes that failed: because of the peer, the network or TLS
---@field timed_out integer handshakes that timed out
---@field answered integer ordinary HTTP requests
---@field messages_in integer messages received, without those of the extended handshake
---@field messages_out integer messages sent, likewise, including those that are still queued
---@field bytes_in integer bytes received, including handshakes and frames, excluding TLS
---@field bytes_out integer bytes sent, likewise, including those that are still queued
---@field queued_bytes integer sent, but not yet taken by the operating system
---@field policy khp.PolicyStats decisions of policies

--- All decisions of policies, including the time they waited.
---@class khp.PolicyStats
---@field count integer number of decisions
---@field seconds number total time
---@field buckets { [1]: number, [2]: integer }[] { seconds, how many decisions took at most that long } each

--- The counters of a server.
---@param server khp.Server
---@return khp.Stats stats
function metrics.stats(server)
  local counts, traffic = server.account, core.listener.traffic(server.source)
  local connections, queued = 0, 0
  for one in pairs(server.live) do
    connections, queued = connections + 1, queued + core.conn.queued(one)
  end
  local decisions, buckets, sum = counts.decisions, {}, 0
  for i, bound in ipairs(account.BOUNDS) do
    sum = sum + decisions[i]
    buckets[i] = { bound, sum }
  end
  return {
    connections = connections,
    accepted = counts.accepted,
    opened = counts.opened,
    opened_khp = counts.khp,
    refused = counts.refused,
    failed = counts.failed,
    timed_out = counts.timed_out,
    answered = counts.answered,
    messages_in = traffic.messages_in,
    messages_out = traffic.messages_out,
    bytes_in = traffic.bytes_in,
    bytes_out = traffic.bytes_out,
    queued_bytes = queued,
    policy = { count = decisions.count, seconds = decisions.seconds, buckets = buckets },
  }
end

-- Text ----------------------------------------------------------------------------------------------------------------

-- Begins a family of metrics.
local function family(lines, name, kind, unit, help)
  lines[#lines + 1] = format("# TYPE %s %s", name, kind)
  if unit then
    lines[#lines + 1] = format("# UNIT %s %s", name, unit)
  end
  lines[#lines + 1] = format("# HELP %s %s", name, help)
end

local function sample(lines, name, labels, value)
  lines[#lines + 1] = format(value % 1 == 0 and "%s%s %d" or "%s%s %.9g", name, labels, value)
end

local function both_ways(lines, name, unit, help, received, sent)
  family(lines, name, "counter", unit, help)
  sample(lines, name .. "_total", '{direction="in"}', received)
  sample(lines, name .. "_total", '{direction="out"}', sent)
end

--- The counters as OpenMetrics text.
---@param stats khp.Stats
---@return string text
function metrics.text(stats)
  local lines = {}
  family(lines, "khp_connections", "gauge", nil, "Connections at present.")
  sample(lines, "khp_connections", "", stats.connections)
  family(lines, "khp_accepted_connections", "counter", nil, "Connections so far.")
  sample(lines, "khp_accepted_connections_total", "", stats.accepted)
  family(lines, "khp_handshakes", "counter", nil, "Handshakes by how they ended.")
  local outcomes = {
    { "opened", stats.opened - stats.opened_khp }, { "opened_khp", stats.opened_khp }, { "refused", stats.refused },
    { "failed", stats.failed }, { "timed_out", stats.timed_out },
  }
  for _, outcome in ipairs(outcomes) do
    sample(lines, "khp_handshakes_total", format('{outcome="%s"}', outcome[1]), outcome[2])
  end
  family(lines, "khp_http_requests", "counter", nil, "Ordinary HTTP requests that were answered.")
  sample(lines, "khp_http_requests_total", "", stats.answered)
  both_ways(lines, "khp_messages", nil, "Messages received, and sent or queued, without those of handshakes.",
    stats.messages_in, stats.messages_out)
  both_ways(lines, "khp_traffic_bytes", "bytes",
    "Bytes received, and sent or queued, with handshakes and frame headers, without TLS.", stats.bytes_in,
    stats.bytes_out)
  family(lines, "khp_queue_bytes", "gauge", "bytes", "Bytes queued that the system has not taken yet.")
  sample(lines, "khp_queue_bytes", "", stats.queued_bytes)
  family(lines, "khp_policy_seconds", "histogram", "seconds", "How long policies took to decide, waiting included.")
  for _, bucket in ipairs(stats.policy.buckets) do
    sample(lines, "khp_policy_seconds_bucket", format('{le="%s"}', bucket[1] % 1 == 0 and format("%.1f", bucket[1])
      or format("%.9g", bucket[1])), bucket[2])
  end
  sample(lines, "khp_policy_seconds_bucket", '{le="+Inf"}', stats.policy.count)
  sample(lines, "khp_policy_seconds_count", "", stats.policy.count)
  sample(lines, "khp_policy_seconds_sum", "", stats.policy.seconds)
  lines[#lines + 1] = "# EOF\n"
  return table.concat(lines, "\n")
end

return metrics
