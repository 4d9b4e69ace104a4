# Reads Kconfig, and the configuration so far; writes the configuration, or the header that the program is built with.
#
#	awk -v old=FILE -v out=config|header [-v none=1] -v set='NAME=VALUE' -f configs/kconfig.awk Kconfig
#
# old: the configuration so far, if there is one; none: a bool that it does not set is off; set: one value before all.
# Subset: mainmenu, menu/endmenu, comment, config, bool/int/hex/string "prompt", default, depends on with && || !
# and no parentheses, help last; entries start in column 0; a symbol is defined above its first use.
function die(m) { print "Kconfig:" FNR ": " m > "/dev/stderr"; bad = 1; exit 1 }
function met(e,  n, m, i, j, a, b, t, neg, ok) {
	n = split(e, a, /\|\|/)
	for (i = 1; i <= n; i++) {
		ok = 1; m = split(a[i], b, /&&/)
		for (j = 1; j <= m; j++) {
			t = b[j]; gsub(/[ \t]/, "", t); neg = sub(/^!/, "", t)
			if (!(t in val)) die("'" t "' is not defined above")
			if ((val[t] == "y") == neg) ok = 0
		}
		if (ok) return 1
	}
	return 0
}
function emit(  v) {
	if (name == "") return
	v = (name in have) ? have[name] : (none && type == "bool") ? "n" : def
	if (dep != "" && !met(dep)) v = (type == "bool") ? "n" : def
	val[name] = v
	if (out == "header") print "#define CONFIG_" name " " (type == "bool" ? v == "y" : v)
	else if (type == "bool" && v != "y") print "# CONFIG_" name " is not set"
	else print "CONFIG_" name "=" v
	name = dep = ""
}
BEGIN {
	while (old != "" && (getline line < old) > 0)
		if (match(line, /^CONFIG_[A-Z0-9_]+=/)) have[substr(line, 8, RLENGTH - 8)] = substr(line, RLENGTH + 1)
		else if (line ~ /^# CONFIG_[A-Z0-9_]+ is not set$/) { split(line, w, " "); have[substr(w[2], 8)] = "n" }
	if (set != "") have[substr(set, 1, index(set, "=") - 1)] = substr(set, index(set, "=") + 1)
}
/^[^ \t]/ { help = 0 }
help || /^[ \t]*(#|$)/ { next }
$1 == "config" { emit(); name = $2; type = ""; def = ""; if (name in val) die("'" name "' defined twice"); next }
$1 == "bool" || $1 == "int" || $1 == "hex" || $1 == "string" { type = $1; if (type == "bool") def = "n"; next }
$1 == "default" { def = $0; sub(/^[ \t]*default[ \t]+/, "", def); next }
$1 == "depends" { dep = $0; sub(/^[ \t]*depends[ \t]+on[ \t]+/, "", dep); next }
$1 == "help" { help = 1; next }
/^(mainmenu|menu|endmenu|comment)/ { emit(); next }
{ die("'" $1 "' is outside the subset we accept") }
END { if (!bad) emit() }
