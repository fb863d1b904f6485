"""
The gateway as an application file, for who starts daemons from those: settings come from the environment.

    twistd -ny tac/lmgateway.tac
"""

from twisted.application.service import Application

from lmgateway.tap import Options, makeService

options = Options()
options.parseOptions([])
application = Application("lmgateway")
makeService(options).setServiceParent(application)
