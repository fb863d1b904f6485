"""Make ``twistd lmgateway`` known. Nothing of ours is imported here, or the reactor would be chosen too early (twisted#3785)."""

from twisted.application.service import ServiceMaker

lmgateway = ServiceMaker("lmgateway", "lmgateway.tap", "LM Studio, safely on a LAN.", "lmgateway")
