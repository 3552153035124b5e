package main

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
)

// Names and labels are those of AWS's provider, so that readers of prices and availability need no second dialect.
var (
	offeringLabels = []string{"instance_type", "capacity_type", "zone"}
	priceEstimate  = prometheus.NewDesc("karpenter_cloudprovider_instance_type_offering_price_estimate",
		"Hourly price of an offering in US dollars.", offeringLabels, nil)
	offeringAvailable = prometheus.NewDesc("karpenter_cloudprovider_instance_type_offering_available",
		"1 where an offering can be bought as far as the provider knows, else 0.", offeringLabels, nil)
)

// offeringMetrics computes its samples at each scrape from what the scheduler sees at that moment.
type offeringMetrics struct {
	instanceTypes func() []*cloudprovider.InstanceType
}

func (offeringMetrics) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- priceEstimate
	descriptions <- offeringAvailable
}

func (m offeringMetrics) Collect(samples chan<- prometheus.Metric) {
	for _, instanceType := range m.instanceTypes() {
		available := map[offeringKey]float64{}
		price := map[offeringKey]float64{}
		// Two reservations of one type in one zone share their labels.
		for _, offering := range instanceType.Offerings {
			key := candidate{instanceType, offering}.key()
			// What is known but not sold has no price, as a type that AWS lists in no price list.
			if offering.Price > 0 {
				price[key] = offering.Price
			}
			if offering.Available {
				available[key] = 1
			} else if _, seen := available[key]; !seen {
				available[key] = 0
			}
		}
		for key, value := range available {
			labels := []string{key.instanceType, key.capacityType, key.zone}
			samples <- prometheus.MustNewConstMetric(offeringAvailable, prometheus.GaugeValue, value, labels...)
			if usd, ok := price[key]; ok {
				samples <- prometheus.MustNewConstMetric(priceEstimate, prometheus.GaugeValue, usd, labels...)
			}
		}
	}
}
