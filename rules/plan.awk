# Sums up `snakemake --dry-run` for a person: by subject, which rules would run, how often, and why.

function count() {
    if (rule == "" || rule == "all") return
    jobs[subject, rule, reason]++
    n_jobs[subject]++
    total++
    if (length(rule) > width) width = length(rule)
    rule = ""
}

function number(n) { return n (n == 1 ? " job" : " jobs") }

function sort(   key, i) {
    for (key in jobs) {
        for (i = ++n_keys; i > 1 && keys[i - 1] > key; i--) keys[i] = keys[i - 1]
        keys[i] = key
    }
}

function show(subject,   i, part) {
    print subject ": " number(n_jobs[subject])
    for (i = 1; i <= n_keys; i++) {
        split(keys[i], part, SUBSEP)
        if (part[1] == subject) printf "    %-" width "s %4d  %s\n", part[2], jobs[keys[i]], part[3]
    }
    print ""
}

/^ *(local)?rule /    { count(); rule = $2; sub(":", "", rule); subject = everyone; reason = "" }
/^ +reason: /         { reason = $0; sub(/^ +reason: /, "", reason); sub(/: .*/, "", reason) }
/^ +wildcards: /      { if (match($0, /subject=[^,]+/)) subject = substr($0, RSTART + 8, RLENGTH - 8) }
/^This was a dry-run/ { count() }
/Nothing to be done/  { nothing = 1 }
BEGIN { everyone = "all subjects" }
END {
    sort()
    for (i = 1; i <= n_keys; i++) {
        split(keys[i], part, SUBSEP)
        if (part[1] != everyone && part[1] != last) show(last = part[1])
    }
    if (n_jobs[everyone]) show(everyone)
    if (total) print number(total) " in all."
    else if (nothing) print "Nothing to do: every result is up to date."
    else { print "The dry run did not finish."; exit 1 }
}
