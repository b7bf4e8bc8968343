-- wrk -s wrk.lua URL -- FILE [TOKEN]: POST the lines of FILE in turn, and say what came of it in one line of JSON.
local requests, turn = {}, 0

function init(args)
  wrk.headers["Content-Type"] = "application/json"
  if args[2] then wrk.headers["Authorization"] = "Bearer " .. args[2] end
  for line in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format("POST", nil, nil, line)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency, _)
  local e = summary.errors
  io.write(string.format(
    '{"n": %d, "errors": %d, "seconds": %.6f, "p50": %.3f, "p99": %.3f}\n',
    summary.requests - e.status, e.connect + e.read + e.write + e.timeout + e.status, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
