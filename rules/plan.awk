# Sums up `snakemake --dry-run` by subject: which rules would run, how often, and why.

/^(local)?rule /       { rule = $2; sub(":", "", rule); subject = "all subjects"; reason = "" }
/^    reason: /        { reason = $0; sub(/^    reason: /, "", reason); sub(/: .*/, "", reason) }
/^    wildcards: /     { if (match($0, /subject=[^,]+/)) subject = substr($0, RSTART + 8, RLENGTH - 8) }
/^$/ && rule != ""     { jobs[subject "\t" rule "\t" reason]++; rule = "" }
/Nothing to be done/   { nothing = 1 }
END {
    for (job in jobs) { print job "\t" jobs[job] | "sort"; total += jobs[job] }
    close("sort")
    if (nothing || !total) print "Nothing to do: every result is up to date."
    else print total " jobs in all."
}
