# ruby webrick.rb PORT
require 'webrick'

server = WEBrick::HTTPServer.new(BindAddress: '127.0.0.1', Port: ARGV[0].to_i, AccessLog: [], Logger: WEBrick::Log.new(File::NULL))
server.mount_proc('/') { |_, response| response.body = "pid #{Process.pid}\n" }
trap('TERM') { server.shutdown }
server.start
