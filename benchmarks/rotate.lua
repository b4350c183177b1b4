-- wrk: every request asks for the next of the paths in the file $PATHS; at the end one line of JSON.
local requests, at = {}, 0
function init()
  for path in io.lines(os.getenv("PATHS")) do
    requests[#requests + 1] = wrk.format("GET", path)
  end
end
function request()
  at = at % #requests + 1
  return requests[at]
end
function done(summary, latency)
  local wrong = summary.errors.status + summary.errors.connect + summary.errors.read
    + summary.errors.write + summary.errors.timeout
  io.write(string.format('{"requests": %d, "seconds": %f, "wrong": %d, "p50": %d, "p99": %d}\n',
    summary.requests, summary.duration / 1e6, wrong,
    latency:percentile(50), latency:percentile(99)))
end
