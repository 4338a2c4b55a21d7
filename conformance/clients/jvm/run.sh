mvn -q -B compile exec:java -Dexec.args="$1"
