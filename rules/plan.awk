# Sums up `snakemake --dry-run` by subject: which rules would run, how often, and why.

function count() { if (rule != "" && rule != "all") jobs[subject "\t" rule "\t" reason]++; rule = "" }

/^(local)?rule /       { count(); rule = $2; sub(":", "", rule); subject = "all subjects"; reason = "" }
/^    reason: /        { reason = $0; sub(/^    reason: /, "", reason); sub(/: .*/, "", reason) }
/^    wildcards: /     { if (match($0, /subject=[^,]+/)) subject = substr($0, RSTART + 8, RLENGTH - 8) }
/^This was a dry-run/  { count() }
/Nothing to be done/   { nothing = 1 }
END {
    for (job in jobs) { print job "\t" jobs[job] | "sort"; total += jobs[job] }
    close("sort")
    if (total) print total " jobs in all."
    else if (nothing) print "Nothing to do: every result is up to date."
    else { print "The dry run did not finish."; exit 1 }
}
