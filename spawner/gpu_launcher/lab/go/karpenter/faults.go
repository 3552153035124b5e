package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	v1 "sigs.k8s.io/karpenter/pkg/apis/v1"
)

// Kinds of a capacity fault: the cloud has none left, or the account may not have more.
const (
	faultICE   = "ice"
	faultQuota = "quota"
)

// faults are what the lab's faults file declares; the kubelet's part of that file is not read here.
type faults struct {
	Capacity           []capacityFault `json:"capacity"`
	NeverRegister      []string        `json:"never_register"`
	GPUNeverAdvertised []string        `json:"gpu_never_advertised"`
}

// capacityFault takes the offerings that all three globs match out of the cloud.
type capacityFault struct {
	InstanceType string `json:"instance_type"`
	Zone         string `json:"zone"`
	CapacityType string `json:"capacity_type"`
	Kind         string `json:"kind"`
}

// readFaults returns no faults for a file that does not exist. A file that cannot be read is an error: a test that
// believes in a fault must not pass without it.
func readFaults(file string) (faults, error) {
	if file == "" {
		return faults{}, nil
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return faults{}, nil
	}
	if err != nil {
		return faults{}, err
	}
	var result faults
	if err := json.Unmarshal(text, &result); err != nil {
		return faults{}, fmt.Errorf("%s: %w", file, err)
	}
	return result, nil
}

// refusal returns what AWS answers to a launch of this offering, and "" if it would launch.
func (f faults) refusal(o offeringKey) string {
	for _, fault := range f.Capacity {
		if glob(fault.InstanceType, o.instanceType) && glob(fault.Zone, o.zone) && glob(fault.CapacityType, o.capacityType) {
			return fault.message(o)
		}
	}
	return ""
}

func (f faults) neverRegisters(instanceType string) bool {
	return anyGlob(f.NeverRegister, instanceType)
}

func (f faults) gpuNeverAdvertised(instanceType string) bool {
	return anyGlob(f.GPUNeverAdvertised, instanceType)
}

// message is worded as EC2 words it, since explanations are tested against it.
func (f capacityFault) message(o offeringKey) string {
	spot := o.capacityType == v1.CapacityTypeSpot
	switch {
	case f.Kind == faultQuota && spot:
		return "MaxSpotInstanceCountExceeded: Max spot instance count exceeded"
	case f.Kind == faultQuota:
		return "VcpuLimitExceeded: You have requested more vCPU capacity than your current vCPU limit of 0 allows for " +
			"the instance bucket that the specified instance type belongs to. Please visit " +
			"http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit."
	case o.capacityType == v1.CapacityTypeReserved:
		return "ReservationCapacityExceeded: The requested reservation does not have sufficient compatible and " +
			"available capacity for this request."
	case spot:
		return "InsufficientInstanceCapacity: There is no Spot capacity available that matches your request."
	default:
		return fmt.Sprintf("InsufficientInstanceCapacity: We currently do not have sufficient %s capacity in the "+
			"Availability Zone you requested (%s). Our system will be working on provisioning additional capacity.",
			o.instanceType, o.zone)
	}
}

func anyGlob(patterns []string, text string) bool {
	for _, pattern := range patterns {
		if glob(pattern, text) {
			return true
		}
	}
	return false
}

// glob treats an empty pattern as "*", and a malformed one as matching nothing (the writer refuses those).
func glob(pattern, text string) bool {
	if pattern == "" {
		return true
	}
	matched, err := path.Match(pattern, text)
	return err == nil && matched
}
