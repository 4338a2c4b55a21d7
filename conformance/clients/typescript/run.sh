set -e
esbuild main.ts --bundle --platform=node --format=esm --packages=external --log-level=error \
  --outfile=main.mjs
node main.mjs "$1"
