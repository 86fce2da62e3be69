# An image that holds highwater and nothing else. `cargo xtask dist` builds the binary.
#
#   docker build -t highwater .
#   docker run --rm -it --privileged --pid=host -v "$PWD:/recordings" highwater record -p PID -o /recordings/service.hwm
FROM scratch
COPY target/dist/highwater /highwater
WORKDIR /recordings
ENTRYPOINT ["/highwater"]
CMD ["--help"]
